/* gauge: what the workloads run inside an instance; one static binary, the same on every backend.
 *
 * It prints lines of two kinds and nothing else on standard output:
 *
 *     work NAME UNITS NS      so many units took so long, by CLOCK_MONOTONIC inside
 *     read NAME VALUE         a whole number, in the unit that the workload declares
 *
 * Units come from a ladder (1, 4, 16, ...): the first rung that lasts long enough to be measured
 * is the one that counts, so that an emulated processor and a real one both end in time.
 */
#pragma once
#include <stdint.h>
#include <stdnoreturn.h>

#ifndef ENOUGH_NS
#define ENOUGH_NS (100 * 1000 * 1000) /* tests that only want to see it work take less */
#endif
enum { NS_PER_S = 1000 * 1000 * 1000 };

typedef void work_fn(uint64_t units);

uint64_t now_ns(void);
void sleep_until(uint64_t at_ns);
void climb(const char *name, uint64_t scale, work_fn *work); /* prints one line of work */
void told_work(const char *name, uint64_t units, uint64_t ns);
void told(const char *name, uint64_t value);
void quantiles(uint64_t *values, uint64_t count); /* sorts; prints p50_ns, p95_ns, most_ns */
void say(const char *word);               /* one line, at once */
noreturn void fail(const char *what);     /* with errno's text; status 1 */
uint64_t number(const char *text, uint64_t most);
uint64_t mixed(uint64_t seed);            /* a step of xorshift64: cheap, fixed, no table */
int listening(uint16_t *port);            /* on 127.0.0.1, or any address for a port that is given */
int connected(uint16_t port);             /* to 127.0.0.1, or -1 */

void syscalls_main(const char *self);
void memory_main(void);
void files_main(const char *directory);
void sync_main(const char *directory);
void copyup_main(const char *directory);
void tcp_main(void);
void echo_main(uint16_t port);
void load_main(uint16_t port, uint64_t rate, uint64_t seconds);
int serve_main(const char *kind, uint16_t port, char **server);
void burn_main(const char *what);
void ticks_main(uint64_t period_us, uint64_t count);
void touch_main(uint64_t mib);
void map_main(const char *path);
