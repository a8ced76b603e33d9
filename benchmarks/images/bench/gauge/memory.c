/* Bandwidth, latency and first touch of memory.
 *
 * The four loops are those of McCalpin's STREAM, on three arrays of 16 MiB; bytes count as they do
 * there (what the loop reads and writes, not what the processor moves). The chase follows one
 * cycle through 64 MiB in an order that no prefetcher guesses.
 */
#include "gauge.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { ARRAY = 16 << 20, LENGTH = ARRAY / 8, LINE = 64, CHASE = 64 << 20, NODES = CHASE / LINE };
enum { PAGE = 4096, FAULTED = 8 << 20 };

static double *a, *b, *c;
static char *nodes;
static uint64_t volatile sink;

static void *mapped(uint64_t bytes)
{
    void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        fail("mmap");
    return made;
}

#define PASSES(name, expression)                                                                   \
    static void name(uint64_t units)                                                               \
    {                                                                                              \
        while (units-- > 0) {                                                                      \
            for (long i = 0; i < LENGTH; i++)                                                      \
                expression;                                                                        \
            __asm__ volatile("" : : "r"(a), "r"(b), "r"(c) : "memory");                            \
        }                                                                                          \
    }
PASSES(copy, c[i] = a[i])
PASSES(scale, b[i] = 3.0 * c[i])
PASSES(add, c[i] = a[i] + b[i])
PASSES(triad, a[i] = b[i] + 3.0 * c[i])

/* Sattolo's shuffle makes one cycle of all nodes. */
static void thread_nodes(void)
{
    uint32_t *order = mapped(NODES * sizeof *order);
    uint64_t state = 88172645463325252ULL;
    for (uint32_t i = 0; i < NODES; i++)
        order[i] = i;
    for (uint32_t i = NODES - 1; i > 0; i--) {
        state = mixed(state);
        uint32_t other = (uint32_t)((state >> 16) % i), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (uint32_t i = 0; i < NODES; i++)
        *(uint64_t *)(nodes + (uint64_t)order[i] * LINE) = order[(i + 1) % NODES];
    munmap(order, NODES * sizeof *order);
}

static void chase(uint64_t units)
{
    uint64_t at = sink % NODES;
    while (units-- > 0)
        at = *(uint64_t *)(nodes + at * LINE);
    sink = at;
}

static void faults(uint64_t units)
{
    for (uint64_t left = units; left > 0;) {
        uint64_t pages = left < FAULTED / PAGE ? left : FAULTED / PAGE;
        char *region = mapped(FAULTED);
        madvise(region, FAULTED, MADV_NOHUGEPAGE);
        for (uint64_t page = 0; page < pages; page++)
            *(volatile char *)(region + page * PAGE) = 1;
        munmap(region, FAULTED);
        left -= pages;
    }
}

void memory_main(void)
{
    a = mapped(ARRAY), b = mapped(ARRAY), c = mapped(ARRAY);
    for (long i = 0; i < LENGTH; i++)
        a[i] = 1.0, b[i] = 2.0, c[i] = 0.0;
    climb("copy", 2 * (uint64_t)ARRAY, copy);
    climb("scale", 2 * (uint64_t)ARRAY, scale);
    climb("add", 3 * (uint64_t)ARRAY, add);
    climb("triad", 3 * (uint64_t)ARRAY, triad);
    munmap(a, ARRAY), munmap(b, ARRAY), munmap(c, ARRAY);
    nodes = mapped(CHASE);
    thread_nodes();
    climb("chase", 1, chase);
    munmap(nodes, CHASE);
    climb("faults", 1, faults);
}
