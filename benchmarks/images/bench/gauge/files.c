/* Small files, durable writes, and the first write to a file of the image. */
#include "gauge.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096, LOWER = 16, MOST_FILES = 1 << 16 };

static int synced_fd;
static char block[BLOCK];

static void name_of(char *name, size_t size, const char *directory, uint64_t index)
{
    if (snprintf(name, size, "%s/%llu", directory, (unsigned long long)index) >= (int)size)
        fail("the directory's name is too long");
}

static uint64_t each(const char *directory, uint64_t count, int (*act)(const char *))
{
    char name[512];
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        name_of(name, sizeof name, directory, i);
        if (act(name) != 0)
            fail(name);
    }
    return now_ns() - start;
}

static int create(const char *name)
{
    int end = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return end < 0 || write(end, block, 100) != 100 || close(end) != 0;
}

static int look(const char *name)
{
    struct stat status;
    return stat(name, &status);
}

void files_main(const char *directory)
{
    for (uint64_t count = 16;; count *= 4) {
        uint64_t create_ns = each(directory, count, create);
        uint64_t stat_ns = each(directory, count, look);
        uint64_t delete_ns = each(directory, count, unlink);
        if (create_ns + stat_ns + delete_ns >= ENOUGH_NS || count >= MOST_FILES) {
            told_work("create", count, create_ns);
            told_work("stat", count, stat_ns);
            told_work("delete", count, delete_ns);
            return;
        }
    }
}

static void syncs(uint64_t units)
{
    while (units-- > 0)
        if (pwrite(synced_fd, block, BLOCK, 0) != BLOCK || fdatasync(synced_fd) != 0)
            fail("fdatasync");
}

void sync_main(const char *directory)
{
    synced_fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (synced_fd < 0)
        fail(directory);
    climb("sync", 1, syncs);
}

/* The byte that is written is the one that is there: the image's content stays what it was. */
static int rewrite(const char *name)
{
    char byte;
    int end = open(name, O_RDWR | O_CLOEXEC);
    return end < 0 || pread(end, &byte, 1, 0) != 1 || pwrite(end, &byte, 1, 0) != 1 ||
           close(end) != 0;
}

void copyup_main(const char *directory)
{
    told_work("first", LOWER, each(directory, LOWER, rewrite));
    told_work("again", LOWER, each(directory, LOWER, rewrite));
}
