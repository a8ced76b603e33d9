/* Brings the guest up: modules, port, the image's file system, and what every machine has. */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICE_LIMIT_MS 10000

static int is_module(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Loads /modules in the order of their names, and frees the memory they take in the initramfs. */
static void load_modules(void)
{
    struct dirent **found;
    int count = scandir("/modules", &found, is_module, alphasort);

    for (int i = 0; i < count; i++) {
        char path[300];
        snprintf(path, sizeof path, "/modules/%s", found[i]->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST))
            fatal("module %s", path);
        close(file);
        unlink(path);
    }
}

/* Waits for what a driver brings up on its own time: look() until it gives a descriptor. */
static int await_device(int (*look)(void), const char *what)
{
    int found = look();

    for (int waited_ms = 0; found < 0 && waited_ms < DEVICE_LIMIT_MS; waited_ms++) {
        poll(NULL, 0, 1);
        found = look();
    }
    if (found < 0)
        fatal("no %s after %d ms", what, DEVICE_LIMIT_MS);
    return found;
}

static int look_for_disk(void)
{
    return access("/dev/vda", F_OK);
}

/* Ports are numbered by PCI order, so the name decides (Documentation/ABI/.../virtio-ports). */
static int look_for_port(void)
{
    DIR *ports = opendir("/sys/class/virtio-ports");
    int found = -1;

    for (struct dirent *entry; ports && found < 0 && (entry = readdir(ports));) {
        char path[300], name[sizeof PORT_NAME] = "";
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        if (read(file, name, sizeof name - 1) > 0 && strcmp(name, PORT_NAME) == 0) {
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            found = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        }
        close(file);
    }
    if (ports)
        closedir(ports);
    return found;
}

static void mount_on(const char *kind, const char *target, unsigned long flags, const char *data)
{
    mkdir(target, 0755);
    if (mount(kind, target, kind, flags, data) != 0)
        fatal("mount %s on %s", kind, target);
}

/* The file systems a container gets too; /run and /tmp are the image's own, as there. */
static void mount_kernel_file_systems(void)
{
    const unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;

    mount_on("proc", "/root/proc", safe, NULL);
    mount_on("sysfs", "/root/sys", safe, NULL);
    mount_on("cgroup2", "/root/sys/fs/cgroup", safe, NULL);
    mkdir("/root/dev", 0755);
    if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) != 0)
        fatal("move /dev");
    mount_on("devpts", "/root/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666,gid=5");
    mount_on("tmpfs", "/root/dev/shm", safe, "mode=1777,size=64m");
    mount_on("mqueue", "/root/dev/mqueue", safe, NULL);
    if (symlink("/proc/self/fd", "/root/dev/fd") || symlink("fd/0", "/root/dev/stdin") ||
        symlink("fd/1", "/root/dev/stdout") || symlink("fd/2", "/root/dev/stderr"))
        fatal("links in /dev");
}

/* Everything that is mounted for an image's init: the rest it does itself. */
static void mount_for_init(void)
{
    mount_on("proc", "/root/proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
    mount_on("sysfs", "/root/sys", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
    mkdir("/root/dev", 0755);
    if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) != 0)
        fatal("move /dev");
}

static void enter_image(bool has_own_init)
{
    mkdir("/root", 0755);
    await_device(look_for_disk, "disk");
    if (mount("/dev/vda", "/root", "ext4", 0, NULL) != 0)
        fatal("mount /dev/vda");
    if (has_own_init)
        mount_for_init();
    else
        mount_kernel_file_systems();
    unlink("/init");    /* the running file keeps its pages; its name must not be found again */
    if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        fatal("switch root");
}

/* What a booted machine has whatever it runs: a name, a loopback, the usual limit of files. */
static void settle(void)
{
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};   /* as systemd(1) sets */
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sethostname("isoscope", 8) || setrlimit(RLIMIT_NOFILE, &files) || control < 0 ||
        ioctl(control, SIOCSIFFLAGS, &loopback))
        fatal("settle");
    close(control);
    umask(022);
}

int find_port(void)
{
    return await_device(look_for_port, "virtio port " PORT_NAME);
}

/* What the distribution's initrd has not mounted; what it has is left as it is. */
static void mount_if_free(const char *kind, const char *target, unsigned long flags,
                          const char *data)
{
    mkdir(target, 0755);
    if (mount(kind, target, kind, flags, data) != 0 && errno != EBUSY)
        fatal("mount %s on %s", kind, target);
}

int take_over(const char *self)
{
    const unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;

    unlink(self);
    mount_if_free("cgroup2", "/sys/fs/cgroup", safe, NULL);
    mount_if_free("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666,gid=5");
    mount_if_free("tmpfs", "/dev/shm", safe, "mode=1777,size=64m");
    mount_if_free("mqueue", "/dev/mqueue", safe, NULL);
    settle();
    return find_port();
}

int boot(void)
{
    const char *init = getenv("ISOSCOPE_INIT");
    int self = init ? open("/init", O_RDONLY | O_CLOEXEC) : -1;

    mount_on("devtmpfs", "/dev", MS_NOSUID, "mode=755");
    mount_on("sysfs", "/sys", 0, NULL);
    load_modules();
    int found = init ? -1 : find_port();
    enter_image(init);
    if (init)
        become_init(init, self);
    settle();
    bring_up_network();
    return found;
}
