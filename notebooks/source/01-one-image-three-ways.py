# %% [markdown]
# # One image, three ways
#
# *Virtual machines are heavy and slow, containers are light and fast.* You have read that
# sentence, perhaps in these words:
#
# > 결론만 얘기하면 기존 가상머신은 무겁고 느리지만, 도커 컨데이너는 가볍고 빠르게 실행되며 …
#
# In this lesson you run **one and the same image** in three ways, on the machine in front of you:
#
# 1. as a plain **process** (`host`): `chroot` into the image's files, and nothing else;
# 2. as a **container**: the same program behind namespaces, control groups, a filter of calls;
# 3. as a **virtual machine** (`vm`): the same files on a disk, under a kernel of its own.
#
# The rhythm is always the same: **predict, observe, explain, check.** Plan for 45 minutes; the
# machine needs less than one of them.

# %% tags=["parameters"]
import os

MODE = os.environ.get("ISOSCOPE_LAB_MODE", "auto")  # "live", "recorded", or "auto": what works

# %%
from notebooks.course import lesson01, show

# %% [markdown]
# ## 1. Predict
#
# Write down what you expect **before** you look. A wrong number teaches more than none. Replace
# each `None`; leave it where you have no idea.
#
# * *start*: from the request to the first byte that the program prints, in milliseconds;
# * *memory*: what one idle instance takes (its share, shared pages split), in MiB.

# %% tags=["prediction"]
prediction = lesson01.predict(
    process_start_ms=None,
    container_start_ms=None,
    vm_start_ms=None,
    process_memory_mib=None,
    container_memory_mib=None,
    vm_memory_mib=None,
)
prediction

# %% [markdown]
# One question more, for paper and pencil: which of the three run on the *same kernel*, and how
# could you prove it to somebody who doubts it?
#
# ## 2. Observe
#
# The next cell starts three processes, three containers and three virtual machines in random
# order, and then two of each at the same time. Each prints one word and then waits, while it is
# looked at from outside (memory) and from inside (who am I?). Where this machine cannot do that,
# a recording from another one takes its place, and **the badge says so on everything you see**.

# %% tags=["evidence"]
evidence = lesson01.gather(MODE)
show.provenance(evidence)

# %% [markdown]
# What ran is an *image*: a manifest, a configuration, and layers of files. Its name is a label
# that anyone may move; its **digest** is computed from its content. Note what is *not* in it:
# there is no kernel in an image.

# %%
evidence.image.image

# %% [markdown]
# Nothing is hidden. This is all the code that started them; `launch` is the benchmark suite's own
# call, and leaving its block is the teardown. Only the word in `worker(name)` differs between the
# three.

# %%
from notebooks.course import observing

show.source(observing.started, observing.look)

# %% [markdown]
# ## 3. Where does the time go?
#
# Each bar is the time between two events. The events have the same names for all three:
# `engine` (the process that runs it exists), `kernel` (a guest's kernel was entered), `init` (its
# first process runs), `exec` (the program was started), `output` (its first byte arrived here).
# The first panel has a logarithmic axis, for all to be on one picture; below, each has its own.
#
# The instrument is in the picture too: between `exec` and `output` lie the program's own first
# steps, and a few tenths of a millisecond until we have asked whether it said something. For
# starts as short as a process's, `isoscope bench boot` looks closer, and more than three times.

# %% tags=["figure"]
show.waterfall(evidence)

# %% [markdown]
# **Explain.** A container has no row named `kernel`: nothing boots. What it has instead is a
# list of kernel calls, which you will read in part 6. Look where the virtual machine's time goes.
# What lies between `kernel` and `init` is not the *machine* starting, it is the *operating system
# in it*: a guest of a few instructions, with no operating system, has nothing of this to wait for.
#
# **What does `tcg` mean?** A virtual machine's instructions are either run by the processor
# itself, with its help for virtualisation (`kvm`), or translated by a program, one block after
# another (`tcg`, QEMU's emulator). Emulation runs the same guest, phase by phase, in the same
# isolation; but it takes many times longer, and it keeps the translated code in memory. So with
# `vm[tcg]` this figure tells you **what** happens during a boot and in which order. It does
# *not* tell how fast virtual machines are, and no such sentence may be drawn from it.
#
# ### Exercise 1: where did most of the time go?
#
# `phases` maps phases to nanoseconds since the request, in no particular order; phases that were
# not seen are missing. Between which two *neighbouring* phases did most of the time pass? Return
# `(before, after, nanoseconds)`.
#
# Your function is tried on what you just saw *and* on made-up instances, so do not type in an
# answer: write down how it is found.


# %%
def longest_step(phases):
    # BEGIN SOLUTION
    names = sorted(phases, key=phases.get)
    steps = [(a, b, phases[b] - phases[a]) for a, b in zip(names, names[1:], strict=False)]
    return max(steps, key=lambda step: step[2])
    # END SOLUTION


# %% tags=["check"]
lesson01.check_longest_step(longest_step, evidence)

# %% [markdown]
# ## 4. Who am I? Same image, other kernel
#
# `rootfs_fingerprint` is a hash over the names and contents of all files that an instance sees.
# `boot_id` is drawn at random by a kernel each time it starts.

# %% tags=["figure"]
show.identity(evidence)

# %% [markdown]
# ### Exercise 2: which of them share a kernel?
#
# `facts` maps a name (`"host"`, `"container"`, `"vm"`) to what was read inside that instance.
# Return a set of frozensets of names, one for each kernel: `{frozenset({"host", …}), …}`.

# %%
lesson01.facts_of(evidence)


# %%
def kernels(facts):
    # BEGIN SOLUTION
    groups = {}
    for name, fact in facts.items():
        groups.setdefault(fact["boot_id"], set()).add(name)
    return {frozenset(names) for names in groups.values()}
    # END SOLUTION


# %% tags=["check"]
lesson01.check_kernels(kernels, evidence)

# %% [markdown]
# **Explain.** The fingerprint is the same three times: it *is* the same image. Process and
# container also have the same `boot_id`: **a container is a process of the host's kernel**, and
# "a container is a small virtual machine" is a misconception. It sees fewer processes and its
# own limits, because the kernel shows it less; nothing was emulated for that. Every virtual
# machine has a `boot_id` of its own. It was given as much memory as the container was allowed,
# yet it sees less of it: its kernel took its share first.

# %% [markdown]
# ## 5. How much memory?
#
# "It takes 2 MB" says nothing before you know which of these was read:
#
# * **RSS** counts every page that the process has mapped; a page that ten processes share is
#   counted ten times.
# * **PSS** divides each shared page among its sharers; sums of it can be trusted.
# * **USS** counts only the pages that nobody else has: what would be free if it ended.
#
# All three are read from the host. For a virtual machine they are QEMU's: the guest's memory as
# far as it was ever touched, and the emulator itself.

# %% tags=["figure"]
show.memory(evidence)

# %% tags=["figure"]
show.pairs(evidence)

# %% [markdown]
# **Explain.** Compare *alone* with *one of two*. The second process maps the same file as the
# first, so each has less of its own: USS falls although nothing in it changed. What an instance
# "takes" depends on its neighbours. (Two containers share like two processes do, because the
# layer below both is one directory. Process and container do not share with each other here: each
# has its own unpacked copy of the image.) Two virtual machines share less of what they take: the
# file from which both load the guest's kernel, and QEMU's own program. What a guest keeps in
# *its* memory, its running kernel and its copy of the image's files, it shares with nobody.
#
# ### Exercise 3: what do they take together?
#
# `readings` holds one mapping for each instance, such as `{"rss": …, "pss": …, "uss": …}` in
# bytes. How many bytes do they take *together*? A reading can be missing; if the sum cannot be
# told then, return `None`: a gap is not zero.


# %%
def really_used(readings):
    # BEGIN SOLUTION
    if any("pss" not in reading for reading in readings):
        return None
    return sum(reading["pss"] for reading in readings)
    # END SOLUTION


# %% tags=["check"]
lesson01.check_really_used(really_used, evidence)

# %% [markdown]
# ## 6. What is a container made of?
#
# There is no kernel call named "make a container". The runtime first *decides* on a list of
# ordinary calls, the plan, and then does them. `isoscope run --explain IMAGE` prints it.
# Open the whole plan and find these five steps:
#
# 1. the `clone` with its `CLONE_NEW…` flags: own process table, mounts, network, host name;
# 2. the `mount` of type `overlay`: the image below, what this instance writes above;
# 3. `pivot_root`, then `umount2`: the host's files are gone, not merely hidden by a new name;
# 4. the many `prctl(PR_CAPBSET_DROP, …)` and the `seccomp`: what even root may not do here;
# 5. the last one, `execve`: the runtime *becomes* the program. From then on nothing of the
#    runtime runs inside the container.

# %% tags=["figure"]
show.plan_by_call(evidence)

# %% [markdown]
# A virtual machine has no such list: its isolation is a processor of its own, real or
# emulated, and a small set of devices; and QEMU, which holds both, is again *a process of the
# host*.
#
# ## 7. Prediction and measurement

# %% tags=["figure"]
show.compare(prediction, evidence)

# %% [markdown]
# ## 8. Verdict
#
# These sentences stand in an introduction to Docker. A verdict is as narrow as the evidence:
# `CONFIRMED-IF` names its condition, and `CANNOT-TELL-HERE` is an honest answer. Which
# measurement would you need to judge the last one?

# %% tags=["figure"]
show.claims(evidence)

# %% [markdown]
# **The sentence from the beginning** has four words, and each needs its own experiment:
# *heavy* (memory? disk? by which definition?), *slow* (to start? at work?), *light*, *fast*. You
# have measured two of them, the start and the idle memory, three times each, on one machine.
# `isoscope bench` measures more, often enough to state intervals.
#
# ### Play
#
# Where this machine can, ask for anything inside any of the three. What does `ls /proc` show, or
# `cat /proc/cpuinfo`, or `mount`? Predict first.

# %%
if evidence.recorded is None:
    answers = {name: observing.ask(name, "uname", "-r") for name in ("host", "container", "vm")}
else:
    answers = "The evidence is a recording: nothing was started on this machine."
answers
