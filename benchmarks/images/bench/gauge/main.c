/* Which gauge is asked for; see gauge.h. */
#include "gauge.h"
#include <stdio.h>
#include <string.h>

static const char USAGE[] =
    "usage: gauge syscalls | memory | files DIR | sync DIR | copyup DIR | tcp | port | echo PORT\n"
    "       gauge load PORT RATE SECONDS | serve http|redis PORT SERVER... [++ CLIENT...]\n"
    "       gauge burn cpu|memory|disk|fork | ticks PERIOD_US COUNT | touch MIB | map FILE\n"
    "       gauge text MIB\n";

static const char *const WORDS[] = {"process ", "container ", "machine ", "kernel ", "page ",
                                    "image ", "layer ", "signal ", "\n", "0123456789 "};

/* Text that compresses as text does, the same bytes everywhere. */
static void text(uint64_t mib)
{
    uint64_t state = 1, left = mib << 20;
    while (left > 0) {
        state = mixed(state);
        const char *word = WORDS[(state >> 32) % 10];
        size_t length = strlen(word);
        if (length > left)
            length = left;
        if (fwrite(word, 1, length, stdout) != length)
            fail("write");
        left -= length;
    }
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
#define ASKED(name, arguments) (strcmp(verb, name) == 0 && argc == 2 + (arguments))
    if (ASKED("true", 0))
        return 0;
    if (ASKED("syscalls", 0))
        syscalls_main("/proc/self/exe");
    else if (ASKED("memory", 0))
        memory_main();
    else if (ASKED("files", 1))
        files_main(argv[2]);
    else if (ASKED("sync", 1))
        sync_main(argv[2]);
    else if (ASKED("copyup", 1))
        copyup_main(argv[2]);
    else if (ASKED("tcp", 0))
        tcp_main();
    else if (ASKED("port", 0)) {
        uint16_t port = 0;
        listening(&port);
        printf("%u\n", port);
    } else if (ASKED("echo", 1))
        echo_main((uint16_t)number(argv[2], 65535));
    else if (ASKED("load", 3))
        load_main((uint16_t)number(argv[2], 65535), number(argv[3], 100000), number(argv[4], 60));
    else if (strcmp(verb, "serve") == 0 && argc > 4)
        return serve_main(argv[2], (uint16_t)number(argv[3], 65535), argv + 4);
    else if (ASKED("burn", 1))
        burn_main(argv[2]);
    else if (ASKED("ticks", 2))
        ticks_main(number(argv[2], 1000000), number(argv[3], 100000));
    else if (ASKED("touch", 1))
        touch_main(number(argv[2], 1 << 20));
    else if (ASKED("map", 1))
        map_main(argv[2]);
    else if (ASKED("text", 1))
        text(number(argv[2], 1024));
    else {
        fputs(USAGE, stderr);
        return 2;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
