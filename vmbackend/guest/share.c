/* Directories of the host, by virtiofs. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

void mount_share(char *payload, uint32_t length)
{
    char *target = length ? memchr(payload, '\0', length) : NULL;

    if (!target || ++target >= payload + length || payload[length - 1] != '\0')
        refuse("a request to share is malformed");
    make_directories(target);
    if (mount(payload, target, "virtiofs", MS_NOSUID | MS_NODEV, NULL) != 0) {
        char why[200];
        snprintf(why, sizeof why, "mount of a share: %s", strerror(errno));
        refuse(why);
    }
}
