# Reads names; prints "name digest", each digest made once and kept in the folder $1.
while read -r name; do
    if [ ! -e "$1/$name" ]; then
        echo "making $name" >&2
        seq 2000 | sed "s/^/$name /" | sha256sum | cut -c 1-16 > "$1/.$name"
        mv "$1/.$name" "$1/$name"
    fi
    echo "$name $(cat "$1/$name")"
done
