"""What a Dockerfile becomes: each test reads, plans and looks at one thing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import golden_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.build.dockerfile import INSTRUCTIONS, read_dockerfile
from runtime.build.model import (
    BuildPlan,
    CopyStep,
    DirectoryStep,
    Download,
    FromImage,
    FromStage,
    Mount,
    Paths,
    RunStep,
    Stage,
    Text,
)
from runtime.build.plan import plan_build
from runtime.build.rendering import render_plan
from runtime.errors import BuildError, ImageError

BASE: Mapping[str, Any] = {"Env": ["PATH=/bin", "B=base"], "Cmd": ["sh"], "WorkingDir": "/w"}


def build(text: str, config: Mapping[str, Any] | None = BASE, **options: Any) -> BuildPlan:
    dockerfile = read_dockerfile(text.encode(), name="F")
    options.setdefault("platform", "linux/amd64")
    return plan_build(dockerfile, config_of=lambda _reference, _platform: config, **options)


def stage(text: str, **options: Any) -> Stage:
    plan = build(f"FROM a\n{text}", **options)
    return plan.stages[plan.target]


def run_steps(text: str, **options: Any) -> list[RunStep]:
    return [step for step in stage(text, **options).steps if isinstance(step, RunStep)]


def copy(text: str, **options: Any) -> CopyStep:
    (step,) = (step for step in stage(text, **options).steps if isinstance(step, CopyStep))
    return step


def mount(text: str) -> Mount:
    (step,) = run_steps(f"WORKDIR /x\nENV V=v\nRUN --mount={text} make")
    (found,) = step.mounts
    return found


# -- stages ---------------------------------------------------------------------------------------


def test_only_what_the_target_needs_is_planned() -> None:
    plan = build(
        "FROM one AS unused\nRUN a\n"
        "FROM two AS Base\nRUN b\n"
        "FROM three AS files\nRUN c\n"
        "FROM base\nCOPY --from=2 /x /y\nRUN --mount=from=four,target=/f d\n"
        "FROM five\nRUN e\n",
        target="3",
    )
    assert [stage.name for stage in plan.stages] == ["base", "files", None]
    assert [stage.index for stage in plan.stages] == [0, 1, 2]
    assert plan.target == 2
    last = plan.stages[2]
    assert last.base == FromStage(index=0)
    copied, ran = last.steps
    assert isinstance(copied, CopyStep)
    assert copied.sources == (Paths(tree=FromStage(index=1), patterns=("x",)),)
    assert isinstance(ran, RunStep)
    assert ran.mounts[0].tree == FromImage(reference="four")


def test_only_bases_that_are_needed_are_asked_for() -> None:
    asked: list[tuple[str, str | None]] = []

    def config_of(reference: str, platform: str | None) -> Mapping[str, Any]:
        asked.append((reference, platform))
        return {}

    text = (
        "ARG T=1\nFROM one\nFROM --platform=linux/x86_64 two:$T\nFROM scratch\nCOPY --from=1 a b"
    )
    plan_build(read_dockerfile(text.encode()), config_of=config_of)
    assert asked == [("two:1", "linux/amd64")]


def test_a_stage_may_have_the_name_of_its_image() -> None:
    plan = build("FROM alpine AS alpine\nFROM alpine\n")
    assert [stage.base for stage in plan.stages] == [
        FromImage(reference="alpine"),
        FromStage(index=0),
    ]


def test_a_chain_as_long_as_a_file_may_be() -> None:
    text = "FROM a AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(900))
    assert len(build(text).stages) == 901


# -- variables ------------------------------------------------------------------------------------


def test_arguments_before_from_are_for_from_and_for_those_who_ask() -> None:
    text = "ARG V=1\nARG W=$V.2\nFROM a:$W\nRUN x\nARG V\nARG W=own-$B\nRUN y\n"
    plan = build(text, build_args={"U": "unused"})
    assert plan.stages[0].base == FromImage(reference="a:1.2")
    first, second = (step for step in plan.stages[0].steps if isinstance(step, RunStep))
    assert "V" not in first.env
    assert (second.env["V"], second.env["W"]) == ("1", "own-base")
    assert any("'U'" in warning for warning in plan.warnings)


def test_a_build_argument_is_stronger_than_a_default_and_no_part_of_the_image() -> None:
    found = stage("ARG V=1\nENV W=$V\nRUN x", build_args={"V": "2"})
    assert "W=2" in found.config["Env"]
    assert not any(entry.startswith("V=") for entry in found.config["Env"])


def test_the_last_of_env_and_arg_counts() -> None:
    (step,) = run_steps("ARG V=arg\nENV V=env\nENV W=env\nARG W=arg\nRUN x")
    assert (step.env["V"], step.env["W"]) == ("env", "arg")


def test_one_instruction_sees_what_held_before_it() -> None:
    found = stage("ENV A=hello\nENV A=bye B=$A\nENV C=$A")
    assert found.config["Env"][1:] == ["B=hello", "A=bye", "C=bye"]


def test_platforms_are_known_where_asked_for_and_proxies_everywhere() -> None:
    (step,) = run_steps(
        "ARG TARGETPLATFORM\nARG TARGETARCH\nRUN x",
        platform="linux/arm64",
        build_args={"HTTP_PROXY": "p"},
    )
    assert (step.env["TARGETPLATFORM"], step.env["TARGETARCH"]) == ("linux/arm64", "arm64")
    assert step.proxies == {"HTTP_PROXY": "p"}
    assert "HTTP_PROXY" not in step.env


def test_arguments_are_inherited_by_a_stage_from_a_stage() -> None:
    plan = build("FROM a AS b\nARG V=1\nONBUILD RUN t\nFROM b\nRUN x\n")
    trigger, own = (step for step in plan.stages[1].steps if isinstance(step, RunStep))
    assert own.env["V"] == "1"
    assert trigger.origin.inherited
    assert trigger.origin.line == 4
    assert "OnBuild" in plan.stages[0].config
    assert "OnBuild" not in plan.stages[1].config


# -- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "argv", "script"),
    [
        ("RUN echo $V", ["/bin/sh", "-c", "echo $V"], None),
        ('RUN ["echo", "$V"]', ["echo", "$V"], None),
        ('SHELL ["/bin/ash", "-ec"]\nRUN a', ["/bin/ash", "-ec", "a"], None),
        ("RUN <<E\na\nb\nE", ["/bin/sh", "-c", "a\nb\n"], None),
        ("RUN <<-E\n\ta\n\tE", ["/bin/sh", "-c", "a\n"], None),
        ("RUN <<E\n#!/bin/x\nE", ["/bin/sh", "-c"], b"#!/bin/x\n"),
        ("RUN cat <<A <<B\n1\nA\n2\nB", ["/bin/sh", "-c", "cat <<A <<B\n1\nA\n2\nB"], None),
        ("RUN a \\\n  # no\n  b", ["/bin/sh", "-c", "a   b"], None),
    ],
)
def test_what_run_runs(text: str, argv: list[str], script: bytes | None) -> None:
    (step,) = run_steps(text)
    assert (list(step.argv), step.script) == (argv, script)


def test_where_and_as_whom_it_runs() -> None:
    (step,) = run_steps("WORKDIR rel\nWORKDIR ../$B/\nUSER $B:1\nRUN --network=none x")
    assert (step.cwd, step.user, step.network) == ("/w/base", "base:1", "none")
    assert step.env == {"PATH": "/bin", "B": "base"}


@pytest.mark.parametrize(
    ("text", "entrypoint", "cmd"),
    [
        ("RUN x", None, ["sh"]),
        ('ENTRYPOINT ["e"]', ["e"], None),
        ('CMD ["c"]\nENTRYPOINT ["e"]', ["e"], ["c"]),
        ('ENTRYPOINT ["e"]\nCMD c', ["e"], ["/bin/sh", "-c", "c"]),
        ("ENTRYPOINT []", None, None),
        ("CMD []", None, []),
    ],
)
def test_an_entrypoint_takes_back_the_command_of_the_base(
    text: str, entrypoint: list[str] | None, cmd: list[str] | None
) -> None:
    config = stage(text).config
    assert (config.get("Entrypoint"), config.get("Cmd")) == (entrypoint, cmd)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("EXPOSE 80 90-91/UDP $B", None, None),
        (
            "ENV P=80\nEXPOSE $P 90-91/UDP",
            "ExposedPorts",
            {"80/tcp": {}, "90/udp": {}, "91/udp": {}},
        ),
        ('LABEL a=b "c d"="$B"', "Labels", {"a": "b", "c d": "base"}),
        ("VOLUME /a $B", "Volumes", {"/a": {}, "base": {}}),
        ('VOLUME ["/a b", "$B"]', "Volumes", {"/a b": {}, "base": {}}),
        ("STOPSIGNAL sigrtmin+3", "StopSignal", "sigrtmin+3"),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        (
            'HEALTHCHECK --interval=1m30s --timeout=0 --retries=3 CMD ["a", "b"]',
            "Healthcheck",
            {"Test": ["CMD", "a", "b"], "Interval": 90 * 10**9, "Retries": 3},
        ),
        ("ONBUILD COPY <<E /x\nhi\nE", "OnBuild", ["COPY <<E /x\nhi\nE"]),
        ("ENV K V W", "Env", ["PATH=/bin", "B=base", "K=V W"]),
        ('ENV PATH=/x:$PATH "a b"=c', "Env", ["PATH=/x:/bin", "B=base", "a b=c"]),
        ("WORKDIR /", "WorkingDir", "/"),
    ],
)
def test_settings(text: str, key: str | None, value: object) -> None:
    if key is None:
        with pytest.raises(BuildError):
            stage(text)
    else:
        assert stage(text).config[key] == value


def test_configs_are_those_after_each_step() -> None:
    found = stage("ENV A=1\nRUN x\nENV A=2", labels={"l": "m"})
    assert [config["Env"][-1] for config in found.configs] == ["A=1", "A=1", "A=2", "A=2"]
    assert found.config["Labels"] == {"l": "m"}
    assert found.config == found.configs[-1]
    assert found.initial["Env"] == BASE["Env"]
    assert len(found.steps) == len(found.configs)


def test_scratch_has_a_path_and_nothing_else() -> None:
    (only,) = build("FROM scratch\n").stages
    assert only.base is None
    assert list(only.config) == ["Env"]


def test_directories_are_made_for_the_user() -> None:
    (_, step, root) = stage("USER u\nWORKDIR x\nWORKDIR /\n").steps
    assert step == DirectoryStep(origin=step.origin, path="/w/x", user="u")
    assert not isinstance(root, DirectoryStep)


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "patterns", "target"),
    [
        ("a b ./", ("a", "b"), "/w/"),
        ("a .", ("a",), "/w/"),
        (". /x", (".",), "/x"),
        ("/a/./b/../c/ d", ("a/c",), "/w/d"),
        ('["a b", "c d/"]', ("a b",), "/w/c d/"),
        ('"a b" $B/', ("a b",), "/w/base/"),
        ("*.[ch] /", ("*.[ch]",), "/"),
        ("--parents /x/./y//z /", ("x/./y/z",), "/"),
        ("--parents x/*/z ./y /", ("x/*/z", "y"), "/"),
    ],
)
def test_what_is_copied_where(words: str, patterns: tuple[str, ...], target: str) -> None:
    step = copy(f"COPY {words}")
    assert [source.patterns for source in step.sources if isinstance(source, Paths)] == [patterns]
    assert step.target == target


def test_flags_of_copy_and_add() -> None:
    step = copy("COPY --link --chown=$B:1 --chmod=0755 --exclude=*.$B --exclude=x a b")
    assert (step.link, step.owner, step.mode) == (True, "base:1", 0o755)
    assert step.exclude == ("*.base", "x")
    assert not step.extract
    assert copy("ADD a b").extract
    assert not copy("ADD --unpack=false a b").extract


def test_downloads_and_texts() -> None:
    digest = "sha256:" + "0" * 64
    step = copy(f"ADD --checksum={digest} https://h/x.tar /")
    assert step.sources == (Download(url="https://h/x.tar", checksum=digest),)
    step = copy("COPY <<A x <<'B' /d/\n$B \\$B 'q'\nA\n$B\nB")
    assert [type(source) for source in step.sources] == [Text, Paths, Text]
    assert step.sources[0] == Text(name="A", data=b"base $B 'q'\n")
    assert step.sources[2] == Text(name="B", data=b"$B\n")


# -- mounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=t", Mount(kind="bind", target="/x/t", read_only=True)),
        (
            "type=bind,src=a/../b,dst=/$V,rw",
            Mount(kind="bind", target="/v", source="/b"),
        ),
        (
            "type=cache,target=/c",
            Mount(kind="cache", target="/c", id="/c", mode=0o755),
        ),
        (
            'type=cache,\\"target=/a,b\\",id=i,sharing=locked,mode=0700,uid=1,gid=2,ro,from=img,source=s',
            Mount(
                kind="cache",
                target="/a,b",
                tree=FromImage(reference="img"),
                source="/s",
                id="i",
                sharing="locked",
                mode=0o700,
                uid=1,
                gid=2,
                read_only=True,
            ),
        ),
        (
            "type=secret,id=s",
            Mount(kind="secret", target="/run/secrets/s", id="s", mode=0o400, read_only=True),
        ),
        (
            "type=secret,target=/k/key,required,mode=0444",
            Mount(
                kind="secret",
                target="/k/key",
                id="key",
                mode=0o444,
                read_only=True,
                required=True,
            ),
        ),
        (
            "type=secret,id=s,env=TOKEN",
            Mount(kind="secret", target=None, id="s", mode=0o400, read_only=True, env="TOKEN"),
        ),
        (
            "type=tmpfs,target=/t,size=1.5g",
            Mount(kind="tmpfs", target="/t", size_bytes=3 << 29),
        ),
    ],
)
def test_mounts(text: str, expected: Mount) -> None:
    assert mount(text) == expected


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("RUN --mount=type=ssh x", "F:2: RUN --mount=type=ssh is not supported"),
        ("RUN --mount=type=foo,target=/x y", "F:2: RUN --mount=type=foo is not supported"),
        ("RUN --mount=type=tmpfs x", "F:2: RUN --mount=type=tmpfs needs a target"),
        ("RUN --mount=type=tmpfs,target=/ x", "F:2: RUN --mount=type=tmpfs needs a target"),
        (
            "RUN --mount=type=tmpfs,target=/x,id=1 y",
            "F:2: RUN --mount=type=tmpfs has no option id",
        ),
        ("RUN --mount=type=secret x", "F:2: RUN --mount=type=secret needs an id"),
        (
            "RUN --mount=type=cache,target=/x,mode=9 y",
            "F:2: RUN --mount=type=cache has a bad mode",
        ),
        ("RUN --mount=target=/x,from=$B y", "F:2: RUN: variables do not count in from=$B"),
        ("RUN --security=insecure x", "F:2: RUN --security=insecure is not supported"),
        ("RUN --network=foo x", "F:2: RUN --network=foo is not supported"),
        ("RUN --device=gpu x", "F:2: RUN --device is not supported"),
        ("RUN --foo x", "F:2: RUN --foo is not supported"),
        ("RUN", "F:2: RUN needs a command"),
        ("RUN []", "F:2: RUN needs a command"),
        ("CMD", "F:2: CMD needs a command"),
        ("USER --foo=x y", "F:2: USER --foo is not supported"),
        ("ONBUILD RUN --mount=type=ssh x", "F:2: RUN --mount=type=ssh is not supported"),
        ("ADD https://h/r.git /x", "F:2: ADD: sources in git are not supported"),
        ("ADD git@h:r /x", "F:2: ADD: sources in git are not supported"),
        ("ADD --keep-git-dir a b", "F:2: ADD --keep-git-dir is not supported"),
        ("ADD ftp://h/x /x", "F:2: ADD: 'ftp://h/x' is no http or https address"),
        ("ADD --checksum=sha256:0 http://h/x /x", "F:2: ADD --checksum="),
        (f"ADD --checksum=sha256:{'0' * 64} a /x", "F:2: ADD --checksum needs one source"),
        ("COPY http://h/x /x", "F:2: COPY: 'http://h/x' is no path"),
        ("COPY ../x /x", "F:2: COPY: '../x' lies outside"),
        ("COPY a", "F:2: COPY needs a source and a target"),
        ("COPY a b /c", "F:2: COPY of several sources into '/c'"),
        ("COPY --chmod=u+x a b", "F:2: COPY --chmod: the mode 'u+x' is not octal"),
        ("COPY --chown=a:b:c a b", "F:2: COPY --chown="),
        ("COPY --link=maybe a b", "F:2: COPY --link=maybe is neither true nor false"),
        ("COPY --chown a b", "F:2: COPY --chown needs a value"),
        ("COPY --from=x --from=y a b", "F:2: COPY --from is given twice"),
        ("COPY --from=0 a b", "F:2: COPY: from=0 is this stage itself"),
        ("COPY --from=7 a b", "F:2: COPY: from=7 is no stage"),
        ("COPY --from=late a b\nFROM b AS late", "F:2: COPY: from=late is a later stage"),
        ("COPY --from=scratch a b", "F:2: COPY: from=scratch is no stage"),
        ("COPY --from=A/B a b", "F:2: COPY: 'A/B' is no image reference"),
        ("COPY --exclude=[a x /y", "F:2: COPY --exclude: the end of the pattern"),
        ("COPY <<E/../x /y\nE/../x", "F:2: COPY: the here-document 'E/../x' is no name"),
        ("COPY a <<E\nE", "F:2: COPY: a here-document cannot be the target"),
        ("FROM a AS b\nFROM c AS B", "F:3: FROM: a stage called 'b' is there already, in line 2"),
        ("FROM a AS 1x", "F:2: FROM: '1x' is no name for a stage"),
        ("FROM a b", "F:2: FROM has too many words"),
        ("FROM $U", "F:2: FROM $U: the name of the image is empty"),
        ("FROM A", "F:2: FROM: 'A' is no image reference"),
        ("FROM --platform=windows a", "F:2: FROM --platform: 'windows' is no platform"),
        ("EXPOSE 70000", "F:2: EXPOSE '70000': ports are from 1 to 65535"),
        ("EXPOSE 80/icmp", "F:2: EXPOSE '80/icmp': the protocol"),
        ("HEALTHCHECK --interval=5 CMD x", "F:2: HEALTHCHECK --interval: '5' is no duration"),
        ("HEALTHCHECK --retries=-1 CMD x", "F:2: HEALTHCHECK --retries: '-1' is no number"),
        ("HEALTHCHECK FOO", "F:2: HEALTHCHECK needs a command"),
        ("HEALTHCHECK NONE x", "F:2: HEALTHCHECK NONE takes neither"),
        ("STOPSIGNAL SIGFOO", "F:2: STOPSIGNAL 'SIGFOO' is no signal"),
        ("SHELL sh -c", "F:2: SHELL needs a JSON array"),
        ("USER $U", "F:2: USER '' names nobody"),
        ("WORKDIR $U", "F:2: WORKDIR '$U' is empty"),
        ("VOLUME $U", "F:2: VOLUME with an empty path"),
        ("ENV $U=x", "F:2: ENV '' is no name"),
        ("ENV A=${A", "F:2: ENV: '${A' cannot be expanded"),
        ("ARG =x", "F:2: ARG '=x' has no name"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(BuildError) as caught:
        build(f"FROM a\n{text}\n")
    assert caught.value.message.startswith(sentence)


@pytest.mark.parametrize("text", ["RUN x\nFROM a", "ARG a", "ENV A=1\nFROM b"])
def test_a_file_begins_with_from(text: str) -> None:
    with pytest.raises(BuildError, match="without a FROM before it"):
        build(text)


def test_what_is_wrong_in_a_stage_that_is_not_needed_is_refused_too() -> None:
    with pytest.raises(BuildError, match="F:2: RUN --foo"):
        build("FROM a\nRUN --foo x\nFROM b\n")


def test_a_target_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(BuildError) as caught:
        build("FROM a AS x\nFROM b AS y\n", target="z")
    assert "the stages are: x, y" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (None, "there is no image 'a'"),
        ({"Env": "x"}, "Env is not a list"),
        ({"Env": [1]}, "Env[0] is not a string"),
        ({"Labels": []}, "Labels is not an object"),
        ({"Volumes": [1]}, "Volumes is not an object"),
        ({"WorkingDir": 1}, "WorkingDir is not a string"),
        ({"OnBuild": ["FROM x"]}, "ONBUILD FROM is not allowed"),
        ({"OnBuild": ["RUN --foo x"]}, "RUN --foo is not supported"),
        ({"OnBuild": ["RUN x\nRUN y"]}, "ONBUILD of the base image is not one instruction"),
        ({"OnBuild": ["RUN x"] * 101}, "more than 100 ONBUILD"),
    ],
)
def test_a_hostile_base_is_refused_at_its_from(config: Mapping[str, Any], what: str) -> None:
    with pytest.raises(BuildError) as caught:
        build("FROM a\nRUN x\n", config)
    assert caught.value.message.startswith("F:1: ")
    assert what in caught.value.message


def test_what_the_store_refuses_is_told_at_its_from() -> None:
    def config_of(reference: str, _platform: str | None) -> Mapping[str, Any]:
        raise ImageError(f"{reference}: corrupt", remedy="pull it again")

    with pytest.raises(BuildError, match="F:1: FROM: a: corrupt; pull it again"):
        plan_build(read_dockerfile(b"FROM a", name="F"), config_of=config_of)


def test_triggers_of_a_base_image_come_first_and_may_need_a_stage() -> None:
    plan = build(
        "FROM scratch AS f\nFROM a\nENV X=1\n", {"OnBuild": ["COPY --from=f a b", "ENV X=0"]}
    )
    first, second, third = plan.stages[1].steps
    assert isinstance(first, CopyStep)
    assert (first.origin.line, first.origin.inherited) == (2, True)
    assert second.origin.inherited
    assert not third.origin.inherited
    assert "X=1" in plan.stages[1].config["Env"]


@pytest.mark.parametrize(
    "text",
    [
        "ENV A=aaaaaaaaaaaaaaaa\n" + "ENV A=$A$A\n" * 60,
        "ENV A=" + "a" * 60000 + "\n" + "ENV B=${A//a/$A}\n",
        "ARG A=" + "a" * 60000 + "\n" + "USER ${E:+$A}x" + "${E:+$A}" * 7000 + "\n" * 2,
        "EXPOSE 1-65535\n" * 900,
        "EXPOSE" + " 1-65535" * 8000,
    ],
)
def test_what_would_grow_without_end_is_refused(text: str) -> None:
    with pytest.raises(BuildError):
        build(f"FROM a\n{text}")


FLAGS = ["--from=a", "--mount=type=cache,target=/x", "--mount=id=$A", "--chmod=1", "--interval=1s"]
WORDS = ["a", "/c/", "$A", "A=1", "80", "AS", "CMD", "NONE", '["a"]', "RUN", "SIGTERM", "scratch"]
LINES = st.lists(
    st.tuples(
        st.sampled_from(sorted(INSTRUCTIONS)),
        st.lists(st.sampled_from([*FLAGS, *WORDS]) | st.text(max_size=4), max_size=5),
    ).map(lambda line: " ".join((line[0], *line[1]))),
    max_size=8,
)


@given(LINES)
def test_any_instructions_are_a_plan_or_an_error_with_a_line(lines: list[str]) -> None:
    plan = planned_or_error(lambda: build("\n".join(["FROM a", *lines])))
    if isinstance(plan, BuildError):
        assert plan.line is not None
        assert plan.message.startswith(f"F:{plan.line}: ")
        return
    for found in plan.stages:
        assert len(found.configs) == len(found.steps)
    assert render_plan(plan).replace("\n", "").isprintable()


def planned_or_error(make: Callable[[], BuildPlan]) -> BuildPlan | BuildError:
    try:
        return make()
    except BuildError as error:
        return error


def test_the_plan_of_everything_is_the_golden_one() -> None:
    path = Path(golden_files.__file__).parent / "golden" / "build" / "everything.Dockerfile"
    triggers = ["RUN echo $A", "COPY <<E /x\nhi\nE"]
    plan = plan_build(
        read_dockerfile(path.read_bytes()),
        config_of=lambda _reference, _platform: {"Env": ["A=1"], "OnBuild": triggers},
        build_args={"V": "2", "https_proxy": "http://proxy:3128"},
        labels={"org.example.built": "yes"},
        platform="linux/amd64",
    )
    golden_files.check("build/everything.txt", render_plan(plan))
