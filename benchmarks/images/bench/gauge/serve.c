/* A server until it answers, then perhaps a client, then its end. */
#include "gauge.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOK_NS = 1000 * 1000, PATIENCE_S = 60 };

static int answers(const char *kind, uint16_t port)
{
    int http = strcmp(kind, "http") == 0;
    const char *question = http ? "GET / HTTP/1.0\r\n\r\n" : "PING\r\n";
    const char *expected = http ? "HTTP/1.1 200 " : "+PONG";
    char said[16] = "";
    int end = connected(port);
    if (end < 0)
        return 0;
    struct timeval limit = {.tv_sec = 5};
    setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    size_t length = strlen(expected);
    int good = write(end, question, strlen(question)) > 0 &&
               recv(end, said, length, MSG_WAITALL) == (ssize_t)length &&
               memcmp(said, expected, length) == 0;
    close(end);
    return good;
}

static pid_t started(char **argv, int quiet)
{
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody outlives the one who started it */
        if (quiet)
            dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(argv[0], argv);
        fail(argv[0]);
    }
    return child;
}

int serve_main(const char *kind, uint16_t port, char **server)
{
    char **client = NULL;
    int status = 0, server_status;
    for (char **word = server; *word != NULL; word++)
        if (strcmp(*word, "++") == 0) {
            *word = NULL;
            client = word + 1;
            break;
        }
    pid_t serving = started(server, 1);
    uint64_t start = now_ns(), look = start;
    while (!answers(kind, port)) {
        if (waitpid(serving, NULL, WNOHANG) == serving || look - start > PATIENCE_S * (uint64_t)NS_PER_S) {
            errno = ETIME;
            fail("the server never answered");
        }
        sleep_until(look = now_ns() + LOOK_NS);
    }
    if (client == NULL)
        say("ready");
    else if (waitpid(started(client, 0), &status, 0) < 0)
        fail("waitpid");
    kill(serving, SIGTERM);
    if (waitpid(serving, &server_status, 0) != serving)
        fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
