# bash completion for isoscope: every answer comes from the program itself.
_isoscope() {
    local flags line
    COMPREPLY=()
    {
        IFS= read -r flags
        while IFS= read -r line; do
            COMPREPLY+=("${line%%$'\t'*}")
        done
    } < <("${COMP_WORDS[0]/#\~/$HOME}" __complete bash \
        "$COMP_WORDBREAKS" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null </dev/null)
    case $flags in
        files*) compopt -o default ;;
        folders*) compopt -o plusdirs ;;
    esac
    case $flags in *nospace) compopt -o nospace ;; esac
}
complete -F _isoscope isoscope
