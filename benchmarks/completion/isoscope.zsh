#compdef isoscope
# zsh completion for isoscope: every answer comes from the program itself.
_isoscope() {
    local flags line
    local -a values told space
    {
        IFS= read -r flags
        while IFS= read -r line; do
            values+=("${line%%$'\t'*}")
            told+=("${line/$'\t'/  }")
        done
    } < <("${words[1]/#\~/$HOME}" __complete zsh "${(@)words[2,CURRENT-1]}" "$PREFIX" \
        2>/dev/null </dev/null)
    [[ $flags == *nospace ]] && space=(-S '')
    (( $#values )) && compadd "${space[@]}" -l -d told -a values
    case $flags in
        files*) _files ;;
        folders*) _files -/ ;;
    esac
}
if [[ $funcstack[1] == _isoscope ]]; then
    _isoscope "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _isoscope isoscope
fi
