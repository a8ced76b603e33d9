/* Tries, from inside of whatever it runs in, what a container must not be able to do.
 *
 * Each word is an attempt, NAME or NAME=ARGUMENT; each is made in a child of its own, and a line
 * says how it went: the word, then "done" or the name of the errno. Nothing here does harm where
 * it succeeds: files are only opened, and calls that would stop a machine are given arguments that
 * the kernel refuses after it has asked for the right to make them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMES_OUT_S 20
#define BAD ((long)0xdead0000)

typedef long attempt(const char *argument);

static long failed(int number)
{
    errno = number;
    return -1;
}

static long open_to_write(const char *path) { return open(path, O_WRONLY | O_CLOEXEC); }

static long read_a_byte(const char *path)
{
    char byte;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (file < 0)
        return -1;
    long count = read(file, &byte, 1);
    return count == 0 ? failed(ENODATA) : count;
}

/* Whether a directory has an entry. */
static long look_into(const char *path)
{
    char room[4096];
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0)
        return -1;
    long bytes = syscall(SYS_getdents64, directory, room, sizeof room);
    return bytes > 64 ? bytes : failed(ENODATA);
}

static long mount_tmpfs(const char *at) { return mount("none", at, "tmpfs", 0, NULL); }
static long mount_cgroup(const char *what) { return mount("none", "/tmp", "cgroup", 0, what); }
static long mount_parent(const char *at) { return mount("/..", at, NULL, MS_BIND | MS_REC, NULL); }
static long unmount(const char *at) { return umount2(at, MNT_DETACH); }

static long new_root(const char *at)
{
    mount("none", at, "tmpfs", 0, NULL);
    return syscall(SYS_pivot_root, at, at);
}

static long remount(const char *at)
{
    return mount(NULL, at, NULL, MS_REMOUNT | MS_BIND, NULL);
}

static long make_disk(const char *path) { return mknod(path, S_IFBLK | 0600, makedev(8, 0)); }
static long make_null(const char *path) { return mknod(path, S_IFCHR | 0666, makedev(1, 3)); }
static long open_fs(const char *kind) { return syscall(SYS_fsopen, kind, 0); }
static long clone_tree(const char *path) { return syscall(SYS_open_tree, AT_FDCWD, path, 1); }

static long move_mount_(const char *path)
{
    return syscall(SYS_move_mount, AT_FDCWD, path, AT_FDCWD, "/no-such-place", 0);
}

static long set_attributes(const char *path)
{
    unsigned long none[4] = {0};
    return syscall(SYS_mount_setattr, AT_FDCWD, path, 0, none, sizeof none);
}

static long unshare_(const char *flags) { return unshare((int)strtol(flags, NULL, 0)); }

static long clone_(const char *flags)
{
    long pid = syscall(SYS_clone, strtol(flags, NULL, 0) | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid;
}

static long clone3_(const char *flags)
{
    unsigned long arguments[8] = {(unsigned long)strtol(flags, NULL, 0), 0, 0, 0, SIGCHLD};
    long pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0)
        _exit(0);
    return pid;
}

static long enter(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    return file < 0 ? -1 : setns(file, 0);
}

static long handles(const char *path)
{
    struct { struct file_handle head; unsigned char bytes[MAX_HANDLE_SZ]; } handle = {
        .head = {.handle_bytes = 8, .handle_type = 1}, .bytes = {2}}; /* inode 2: a root */
    int place = open(path, O_RDONLY | O_CLOEXEC);
    return place < 0 ? -1 : open_by_handle_at(place, &handle.head, O_RDONLY);
}

static long bpf_(const char *none) { (void)none; return syscall(SYS_bpf, 5, BAD, 8); }
static long perf(const char *none) { (void)none; return syscall(SYS_perf_event_open, BAD, 0, -1, -1, 0); }
static long faults(const char *none) { (void)none; return syscall(SYS_userfaultfd, 0); }
static long uring(const char *none) { (void)none; return syscall(SYS_io_uring_setup, 0, BAD); }
static long fanotify(const char *none) { (void)none; return syscall(SYS_fanotify_init, 0, 0); }
static long key(const char *none) { (void)none; return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1); }
static long add_key_(const char *none) { (void)none; return syscall(SYS_add_key, "user", "isoscope", "x", 1, KEY_SPEC_PROCESS_KEYRING); }
static long put_key(const char *name) { return syscall(SYS_add_key, "user", name, "x", 1, KEY_SPEC_SESSION_KEYRING); }
static long find_key(const char *name) { return syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", name, 0); }
static long drop_key(const char *name) { return syscall(SYS_keyctl, KEYCTL_UNLINK, find_key(name), KEY_SPEC_SESSION_KEYRING); }
static long kexec(const char *none) { (void)none; return syscall(SYS_kexec_load, 0, 1 << 20, BAD, ~0ul); }
static long reboot_(const char *none) { (void)none; return syscall(SYS_reboot, 0, 0, 0, 0); }
static long load(const char *none) { (void)none; return syscall(SYS_init_module, BAD, 0, ""); }
static long load_file(const char *none) { (void)none; return syscall(SYS_finit_module, -1, "", 0); }
static long unload(const char *none) { (void)none; return syscall(SYS_delete_module, "isoscope-no-such", O_NONBLOCK); }
static long ports(const char *none) { (void)none; return syscall(SYS_iopl, 3); }
static long swap(const char *none) { (void)none; return swapon("/no-such-file", 0); }
static long account(const char *none) { (void)none; return acct("/no-such-file"); }
static long name_host(const char *none) { (void)none; return sethostname("other", 5); }
static long kernel_log(const char *none) { (void)none; return klogctl(3, (char[64]){0}, 64); }
static long fixed_addresses(const char *none) { (void)none; return personality(ADDR_NO_RANDOMIZE); }

static long set_clock(const char *none)
{
    struct timespec never = {0, -1};
    (void)none;
    return syscall(SYS_clock_settime, CLOCK_REALTIME, &never);
}

static long adjust_clock(const char *none)
{
    struct timex change = {.modes = ADJ_TICK, .tick = 1};
    (void)none;
    return adjtimex(&change);
}

static long hurry(const char *none) { (void)none; return setpriority(PRIO_PROCESS, 0, -5); }

static long talk(const char *family)
{
    int kind = strcmp(family, "17") == 0 ? SOCK_RAW : SOCK_SEQPACKET;
    if (strcmp(family, "2") == 0)
        return socket(AF_INET, SOCK_RAW, 1);
    if (strcmp(family, "40") == 0)
        kind = SOCK_STREAM;
    return socket(atoi(family), kind, 0);
}

static long inject(const char *none)
{
    int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    (void)none;
    return terminal < 0 ? -1 : ioctl(terminal, TIOCSTI, "x");
}

static long signal_(const char *pid) { return kill(atoi(pid), 0); }

static long trace(const char *pid) { return ptrace(PTRACE_SEIZE, atoi(pid), 0, 0); }

static long read_memory(const char *pid)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)4096, 1};
    return process_vm_readv(atoi(pid), &here, 1, &there, 1, 0);
}

/* A socket without a file: it belongs to a network namespace, not to a file system. */
static long call_abstract(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
    return connect(own, (struct sockaddr *)&address,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
}

/* Out of a chroot by a second one: stand outside of the new root, go up, and look around. */
static long climb(const char *room)
{
    struct stat before, after;
    int outside = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    mkdir(room, 0755);
    if (outside < 0 || stat("/", &before) || chroot(room) || fchdir(outside))
        return -1;
    for (int steps = 0; steps < 64; steps++)
        if (chdir(".."))
            return -1;
    if (stat(".", &after))
        return -1;
    int is_same = before.st_dev == after.st_dev && before.st_ino == after.st_ino;
    return is_same ? failed(EXDEV) : 0;
}

/* A copy of this program with the set-user-ID bit, run by somebody else. */
static long gain(const char *path)
{
    static char room[1 << 16];
    int status, from = open("/proc/self/exe", O_RDONLY), to = open(path, O_WRONLY | O_CREAT, 0755);

    for (long count; (count = read(from, room, sizeof room)) > 0;)
        if (write(to, room, (size_t)count) != count)
            return -1;
    close(to);
    if (chown(path, 0, 0) || chmod(path, 04755))
        return -1;
    if (fork() == 0) {
        if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
            _exit(2);
        execl(path, path, "whoami", (char *)NULL);
        _exit(3);
    }
    wait(&status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : failed(EACCES);
}

/* Says once in the file *told* what can be seen of processes that were not here before. */
static void note(FILE *told, const char *kind, const char *pid, const char *name)
{
    char path[64], link[256];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    ssize_t length = readlink(path, link, sizeof link - 1);
    if (length < 0)
        return;
    link[length] = 0;
    fprintf(told, "%s %s\n", kind, link);
    if (strcmp(kind, "exe") != 0)
        return;
    int held = open(path, O_PATH | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", held);
    int file = strstr(link, "memfd") ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file >= 0 && (write(file, "x", 1) == 1 || ftruncate(file, 0) == 0))
        fprintf(told, "wrote %s\n", link);
    if (file >= 0)
        close(file);
    close(held);
}

/* Until /tmp/stop is there: as fast as it goes, who came, by which program, with which files. */
static long watch(const char *path)
{
    char done[64], own[16];
    FILE *told = fopen(path, "we");
    DIR *processes = opendir("/proc");

    alarm(0);
    snprintf(own, sizeof own, "%d", getpid());
    while (told && processes && access("/tmp/stop", F_OK) != 0) {
        rewinddir(processes);
        for (struct dirent *entry; (entry = readdir(processes));) {
            const char *pid = entry->d_name;
            if (*pid < '1' || *pid > '9' || strcmp(pid, "1") == 0 || strcmp(pid, own) == 0)
                continue;
            note(told, "exe", pid, "exe");
            note(told, "cwd", pid, "cwd");
            note(told, "root", pid, "root");
            for (int file = 3; file < 12; file++) {
                char name[8];
                snprintf(name, sizeof name, "fd/%d", file);
                note(told, "fd", pid, name);
            }
        }
    }
    fclose(told);
    snprintf(done, sizeof done, "%s.done", path);
    return open(done, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
}

static const struct { const char *name; attempt *make; } attempts[] = {
    {"write", open_to_write}, {"read", read_a_byte}, {"look", look_into},
    {"mount", mount_tmpfs}, {"mount-cgroup", mount_cgroup}, {"mount-parent", mount_parent},
    {"remount", remount}, {"unmount", unmount}, {"pivot-root", new_root},
    {"make-disk", make_disk}, {"make-null", make_null}, {"fsopen", open_fs},
    {"open-tree", clone_tree}, {"move-mount", move_mount_}, {"mount-setattr", set_attributes},
    {"unshare", unshare_}, {"clone", clone_}, {"clone3", clone3_}, {"setns", enter},
    {"handles", handles}, {"bpf", bpf_}, {"perf", perf}, {"userfaultfd", faults},
    {"io-uring", uring}, {"fanotify", fanotify}, {"keyring", key}, {"add-key", add_key_},
    {"kexec", kexec}, {"reboot", reboot_}, {"load", load}, {"load-file", load_file},
    {"unload", unload}, {"iopl", ports}, {"swap", swap}, {"acct", account},
    {"hostname", name_host}, {"dmesg", kernel_log}, {"personality", fixed_addresses},
    {"clock", set_clock}, {"adjust", adjust_clock}, {"hurry", hurry}, {"socket", talk}, {"tiocsti", inject},
    {"signal", signal_}, {"ptrace", trace}, {"read-memory", read_memory},
    {"abstract", call_abstract}, {"climb", climb}, {"set-uid", gain}, {"put-key", put_key}, {"find-key", find_key}, {"drop-key", drop_key}, {"watch", watch},
};

static void tell(const char *word, attempt *make, const char *argument)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(TIMES_OUT_S);
        unshare(CLONE_NEWNS);    /* where that is allowed, what it mounts is its own */
        errno = 0;
        long result = make(argument);
        printf("%s %s\n", word, result < 0 ? strerrorname_np(errno) : "done");
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status))
        printf("%s died\n", word);
}

int main(int count, char **words)
{
    if (count == 2 && strcmp(words[1], "whoami") == 0)
        return geteuid() == 0 ? 0 : 1;
    for (int i = 1; i < count; i++) {
        const char *argument = strchr(words[i], '=');
        size_t length = argument ? (size_t)(argument - words[i]) : strlen(words[i]);
        for (size_t j = 0; j < sizeof attempts / sizeof *attempts; j++)
            if (strncmp(attempts[j].name, words[i], length) == 0 && !attempts[j].name[length])
                tell(words[i], attempts[j].make, argument ? argument + 1 : "");
    }
    return 0;
}
