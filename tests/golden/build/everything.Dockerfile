# syntax=docker/dockerfile:1
ARG TAG=latest
FROM --platform=linux/amd64 busybox:${TAG} AS build
ARG V=1
ENV PATH=/opt/bin:$PATH NAME=x
WORKDIR src
COPY --chown=1:1 --chmod=644 a b ./
RUN --mount=type=cache,target=/c,id=x \
    --mount=type=secret,id=t --mount=type=tmpfs,target=t,size=64m \
    --mount=target=/ctx,rw --network=none make $V
RUN <<EOF
echo hi
EOF
RUN <<-END
	#!/bin/sh
	echo $0
	END
RUN cat <<A - <<'B'
one
A
two
B
FROM unused
RUN nothing
FROM scratch
COPY --from=build --parents --exclude=*.c /src/./bin /
ARG V=late
COPY <<EOF <<"F" /etc/
a ${UNSET:-b}
EOF
x $V
F
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.org/x.tar /x
SHELL ["/bin/ash", "-ec"]
CMD server
ENTRYPOINT ["/bin/app"]
EXPOSE 80 90-91/udp
HEALTHCHECK --interval=1m --retries=3 CMD curl localhost
STOPSIGNAL SIGTERM
ONBUILD COPY <<X /src
kept
X
VOLUME /data $V/x
USER nobody
LABEL a=b "c d"="e f"
MAINTAINER me
