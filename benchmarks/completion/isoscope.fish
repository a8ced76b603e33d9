# fish completion for isoscope: every answer comes from the program itself.
function __isoscope_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l said ($words[1] __complete fish $words[2..-1] "$current" 2>/dev/null </dev/null)
    if string match -q 'files*' -- "$said[1]"
        __fish_complete_path "$current"
    else if string match -q 'folders*' -- "$said[1]"
        __fish_complete_directories "$current"
    end
    printf '%s\n' $said[2..-1]
end
complete -c isoscope -f -a '(__isoscope_complete)'
