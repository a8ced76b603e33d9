/* The commands of the host: started by vfork and execve, fed, drained, reaped. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_READS 64   /* 2 MiB: more than a pipe holds; an orphan may write for ever */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct request {
    uint32_t uid, gid, ngroups, argc, envc;
    gid_t *groups;
    char *cwd, **argv, **env;
};

struct command commands[MAX_COMMANDS];

void forget_commands(void)
{
    for (int i = 0; i < MAX_COMMANDS; i++)
        commands[i] = (struct command){.in = -1, .out = -1, .err = -1};
}

struct command *find(uint32_t id)
{
    for (int i = 0; i < MAX_COMMANDS; i++)
        if (commands[i].pid && commands[i].id == id)
            return &commands[i];
    return NULL;
}

static struct command *free_slot(void)
{
    for (int i = 0; i < MAX_COMMANDS; i++)
        if (!commands[i].pid)
            return &commands[i];
    refuse("more commands at once than there are slots");
}

/* What is not there is made, parents included; whatever cannot be, the next call tells. */
void make_directories(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    mkdir(path, 0755);
}

static const char *search_path(char **env)
{
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return DEFAULT_PATH;    /* searched, as a shell would; not given to the command */
}

/* As execvpe(3), but with the PATH of the command's own environment and without its shell. */
static void execute(struct request *request)
{
    const char *name = request->argv[0];
    int error = ENOENT;

    if (strchr(name, '/')) {
        execve(name, request->argv, request->env);
        return;
    }
    for (const char *entry = search_path(request->env); *entry && *name;) {
        char path[4096];
        size_t length = strcspn(entry, ":");
        snprintf(path, sizeof path, "%.*s/%s", (int)length, length ? entry : ".", name);
        execve(path, request->argv, request->env);
        if (errno != ENOENT && errno != ENOTDIR)
            error = errno;
        entry += length + (entry[length] == ':');
    }
    errno = error;
}

/*
 * The child of a vfork: shares our memory until it execs, so it only makes calls. Returns the
 * call that failed.
 */
static const char *become(struct request *request, const int ends[3])
{
    sigset_t none;

    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    for (int target = 0; target < 3; target++)
        if (dup2(ends[target], target) < 0)
            return "dup2";
    make_directories(request->cwd);     /* as docker does */
    if (chdir(request->cwd))
        return "chdir";
    if (setgroups(request->ngroups, request->groups) || setgid(request->gid) ||
        setuid(request->uid))
        return "setuid";
    execute(request);
    return "execve";
}

static void send_failure(uint32_t id, uint32_t error, const char *call)
{
    char payload[64];

    memcpy(payload, &error, sizeof error);
    snprintf(payload + sizeof error, sizeof payload - sizeof error, "%s", call);
    send_frame(FAILED, id, payload, (uint32_t)(sizeof error + strlen(call)));
}

static void close_end(int *end)
{
    if (*end >= 0)
        close(*end);
    *end = -1;
}

static void release(struct command *command)
{
    close_end(&command->in);
    close_end(&command->out);
    close_end(&command->err);
    free(command->pending.bytes);
    *command = (struct command){.in = -1, .out = -1, .err = -1};
}

/* vfork: it returns when execve has succeeded or failed, which is the mark the host wants. */
static void start(uint32_t id, struct request *request)
{
    struct command *command = free_slot();
    int in[2], out[2], err[2];
    const char *volatile failed = NULL;
    volatile int error = 0;

    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        fatal("pipes");
    pid_t child = vfork();
    if (child == 0) {
        failed = become(request, (int[]){in[0], out[1], err[1]});
        error = errno;
        _exit(127);
    }
    if (child < 0) {
        failed = "vfork";
        error = errno;
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    *command = (struct command){id, child, in[1], out[0], err[0], false, {NULL, 0, 0}};
    if (failed) {
        send_failure(id, (uint32_t)error, failed);
        release(command);   /* the dead child is reaped as an orphan */
        return;
    }
    for (int i = 0; i < 3; i++)
        fcntl((int[]){in[1], out[0], err[0]}[i], F_SETFL, O_NONBLOCK);
    send_frame(STARTED, id, NULL, 0);
}

void feed(struct command *command)
{
    size_t before = command->pending.used;

    if (!flush(command->in, &command->pending)) {
        command->pending.used = 0;      /* it closed its standard input: the rest goes nowhere */
        close_end(&command->in);
    }
    uint32_t passed = (uint32_t)(before - command->pending.used);
    if (passed)
        send_frame(CREDIT, command->id, &passed, sizeof passed);
    if (command->in_ended && !command->pending.used)
        close_end(&command->in);
}

/* Forwards one read of a pipe. False: nothing was there. */
bool drain(struct command *command, int *end, enum type type)
{
    static char bytes[32768];
    ssize_t count = *end < 0 ? 0 : read(*end, bytes, sizeof bytes);

    if (count > 0)
        send_frame(type, command->id, bytes, (uint32_t)count);
    else if (count == 0)
        close_end(end);
    return count > 0;
}

void reap(int signals)
{
    struct signalfd_siginfo info;
    int status;

    while (read(signals, &info, sizeof info) > 0)
        ;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (int i = 0; i < MAX_COMMANDS; i++) {
            struct command *command = &commands[i];
            uint32_t code = (uint32_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                                           : WEXITSTATUS(status));
            if (command->pid != pid)
                continue;
            for (int reads = 0; reads < LAST_READS && drain(command, &command->out, STDOUT); reads++)
                ;
            for (int reads = 0; reads < LAST_READS && drain(command, &command->err, STDERR); reads++)
                ;
            send_frame(EXITED, command->id, &code, sizeof code);
            release(command);
        }
    }
}

/* Cuts the next string off; what does not end in NUL is refused before this is called. */
static char *next_string(char **rest, const char *end)
{
    char *string = *rest;

    if (string >= end)
        refuse("a request to run holds fewer strings than it says");
    *rest += strlen(string) + 1;
    return string;
}

static char **next_strings(char **rest, const char *end, uint32_t count)
{
    char **list = calloc((size_t)count + 1, sizeof *list);

    if (!list)
        fatal("memory for %u strings", count);
    for (uint32_t i = 0; i < count; i++)
        list[i] = next_string(rest, end);
    return list;
}

void run(uint32_t id, char *payload, uint32_t length)
{
    struct request request = {0};
    const size_t numbers = 5 * sizeof(uint32_t);
    char *end = payload + length, *rest = payload + numbers;

    if (length < numbers || end[-1] != '\0' || find(id))
        refuse("a request to run is malformed");
    memcpy(&request, payload, numbers);
    if (request.ngroups > 65536 || request.argc < 1 || request.argc > MAX_FRAME ||
        request.envc > MAX_FRAME || (size_t)(end - rest) < request.ngroups * sizeof(gid_t))
        refuse("a request to run has impossible counts");
    request.groups = (gid_t *)(void *)rest;
    rest += request.ngroups * sizeof(gid_t);
    request.cwd = next_string(&rest, end);
    request.argv = next_strings(&rest, end, request.argc);
    request.env = next_strings(&rest, end, request.envc);
    start(id, &request);
    free(request.argv);
    free(request.env);
}

void take_stdin(struct command *command, const char *bytes, uint32_t length)
{
    if (command->pending.used + length > STDIN_WINDOW)
        refuse("more standard input than the window allows");
    command->in_ended = command->in_ended || length == 0;
    append(&command->pending, bytes, length);
    feed(command);
}
