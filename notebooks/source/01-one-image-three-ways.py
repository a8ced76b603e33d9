# %% [markdown] lang="en"
# # One image, three ways
#
# > Virtual machines are heavy and slow; containers are light and fast.
#
# You have read that sentence, or one like it. In this lesson you put it to the test: you run **one
# and the same image** three times, on the machine in front of you,
#
# 1. as a plain **process** (`host`): `chroot` into the image's files, and nothing else;
# 2. as a **container** (`container`): the same program behind namespaces, control groups and a
#    filter of system calls;
# 3. as a **virtual machine** (`vm`): the same files on a disk, under a kernel of its own.
#
# Every part has the same rhythm: **predict, observe, explain, check.** Plan for 45 minutes; the
# machine works for less than one of them. You need to read a little Python, nothing else. Click on
# a cell and press Shift + Enter to run it; go from top to bottom.

# %% [markdown] lang="ko" src="881c7a54"
# # 이미지 하나, 실행하는 방법 셋
#
# > 기존 가상머신은 무겁고 느리지만, 도커 컨테이너는 가볍고 빠르게 실행된다.
#
# 도커를 소개하는 글이라면 어디에나 있는 문장입니다. 이번 시간에는 이 말을 그대로 믿지 않고 직접
# 시험해 봅니다. 지금 앞에 있는 컴퓨터에서 **똑같은 이미지 하나**를 세 가지 방법으로 실행합니다.
#
# 1. 평범한 **프로세스**(`host`): 이미지의 파일 속으로 `chroot`만 할 뿐, 다른 것은 하지 않습니다.
# 2. **컨테이너**(`container`): 같은 프로그램을 네임스페이스, 제어 그룹(cgroup), 시스템 콜 필터
#    뒤에 둡니다.
# 3. **가상 머신**(`vm`): 같은 파일을 디스크에 담고, 자기만의 커널 위에서 실행합니다.
#
# 순서는 늘 같습니다. **예상하고, 관찰하고, 설명하고, 확인합니다.** 45분쯤 걸리지만 컴퓨터가
# 일하는 시간은 1분도 되지 않습니다. 파이썬을 조금 읽을 줄 알면 충분합니다. 셀을 누르고 Shift +
# Enter를 치면 실행됩니다. 위에서 아래로 차례차례 실행하세요.

# %% tags=["parameters"]
import os

MODE = os.environ.get("ISOSCOPE_LAB_MODE", "auto")  # "live", "recorded" or "auto"
LANGUAGE = "en"  # "en" or "ko"

# %%
from notebooks.course import lesson01

lesson = lesson01.begin(LANGUAGE)
show = lesson.show

# %% [markdown] lang="en"
# ## 1. Predict
#
# Write down what you expect **before** you look: replace each `None`, or leave it where you have
# no idea. A wrong number teaches more than none.
#
# * `…_start_ms`: from the request to the first byte that the program prints, in milliseconds;
# * `…_memory_mib`: what one idle instance takes, in MiB;
# * `kernels`: three processes, three containers and three virtual machines will be started. On how
#   many *different* kernels do these nine run?

# %% [markdown] lang="ko" src="9325c839"
# ## 1. 예상하기
#
# **보기 전에** 먼저 예상을 적습니다. `None`을 숫자로 바꾸세요. 전혀 모르겠으면 그대로 두어도
# 되지만, 틀린 숫자라도 적어 두면 훨씬 많이 배웁니다.
#
# * `…_start_ms`: 실행을 요청한 때부터 프로그램이 첫 글자를 출력할 때까지 걸리는 시간(밀리초)
# * `…_memory_mib`: 아무 일도 하지 않는 인스턴스 하나가 쓰는 메모리(MiB)
# * `kernels`: 프로세스 셋, 컨테이너 셋, 가상 머신 셋을 시작합니다. 이 아홉은 서로 다른 커널 몇
#   개 위에서 돌아갈까요?

# %% tags=["prediction"]
prediction = lesson.predict(
    process_start_ms=None,
    container_start_ms=None,
    vm_start_ms=None,
    process_memory_mib=None,
    container_memory_mib=None,
    vm_memory_mib=None,
    kernels=None,
)
prediction

# %% [markdown] lang="en"
# ## 2. Observe
#
# The next cell starts three of each in random order, then two of each at the same time, then some
# with other amounts of memory. Each prints one word and waits while we look at it, from outside
# (time, memory) and from inside (who am I?). It takes about half a minute.
#
# Where this machine cannot do that, a recording from another one takes its place. **A badge on
# everything you see says which it is.**

# %% [markdown] lang="ko" src="f8fb0f52"
# ## 2. 관찰하기
#
# 다음 셀은 세 가지를 무작위 순서로 세 번씩 시작하고, 이어서 두 개씩 동시에, 마지막으로 메모리
# 제한을 바꾸어 시작합니다. 인스턴스는 저마다 한 단어를 출력하고 기다립니다. 그동안 우리는
# 밖에서(시간, 메모리) 그리고 안에서(나는 누구인가?) 들여다봅니다. 30초쯤 걸립니다.
#
# 이 컴퓨터에서 실행할 수 없으면 다른 컴퓨터에서 남긴 기록을 대신 보여 줍니다. **무엇을 보고
# 있는지는 표와 그림마다 붙은 배지에 적혀 있습니다.**

# %% tags=["evidence"]
evidence = lesson.gather(MODE)
show.provenance(evidence)

# %% [markdown] lang="en"
# What ran is an *image*: a manifest, a configuration, and layers of files. A name such as
# `busybox:latest` can be moved to another image at any time; the **digest** is computed from the
# content and cannot.
#
# > **Misconception:** "An image contains an operating system." Look at the list: files, a command,
# > a processor architecture. There is no kernel in an image.

# %% [markdown] lang="ko" src="7de0cdb5"
# 방금 실행한 것은 *이미지*입니다. 이미지는 매니페스트와 설정, 그리고 파일이 담긴 레이어로
# 이루어집니다. `busybox:latest` 같은 이름은 언제든 다른 이미지로 옮겨 붙일 수 있지만,
# **다이제스트**는 내용으로 계산한 값이라 그럴 수 없습니다.
#
# > **흔한 오해:** "이미지 안에는 운영체제가 들어 있다." 아래 목록을 보세요. 파일, 실행할 명령,
# > 프로세서 종류가 있을 뿐, 이미지 안에 커널은 없습니다.

# %%
evidence.image.image

# %% [markdown] lang="en"
# Nothing is hidden. This is all the code that started and looked at them; only the word `name`
# differs between the three. Leaving the `with` block ends the instance.

# %% [markdown] lang="ko" src="a50aff9b"
# 숨긴 것은 없습니다. 인스턴스를 시작하고 들여다본 코드는 이것이 전부이고, 세 방법에서 다른 것은
# `name`에 들어가는 단어뿐입니다. `with` 블록을 나가면 인스턴스도 끝납니다.

# %%
from notebooks.course import observing

show.source(observing.started, observing.look)

# %% [markdown] lang="en"
# ## 3. Where does the time go?
#
# A start is a row of events, and they have the same names for all three:
#
# | event | what has just happened |
# |---|---|
# | `prepared` | its own files are in place |
# | `engine` | the process that runs it exists: ours, or QEMU |
# | `kernel` | a guest's kernel was entered (`vm` only) |
# | `init` | its first process runs |
# | `exec` | the image's program was started |
# | `output` | the program's first byte arrived here |
#
# A name such as `init.agent` is a finer step of `init`. The first panel puts all three on one
# logarithmic axis; below it, each has an axis of its own.

# %% [markdown] lang="ko" src="752d94e5"
# ## 3. 시간은 어디에 쓰일까?
#
# 시작 과정은 사건의 연속입니다. 사건의 이름은 세 방법에서 모두 같습니다.
#
# | 사건 | 방금 일어난 일 |
# |---|---|
# | `prepared` | 자기 파일이 모두 제자리에 놓임 |
# | `engine` | 실행을 맡을 프로세스가 생김: 우리 프로그램 또는 QEMU |
# | `kernel` | 게스트의 커널에 들어감(`vm`에만 있음) |
# | `init` | 첫 프로세스가 돌기 시작함 |
# | `exec` | 이미지의 프로그램이 시작됨 |
# | `output` | 프로그램이 출력한 첫 글자가 여기에 도착함 |
#
# `init.agent`처럼 점이 있는 이름은 `init`을 더 잘게 나눈 것입니다. 첫 번째 그림은 셋을 로그 축
# 하나에 함께 놓았고, 그 아래에서는 저마다 자기 축을 씁니다.

# %% tags=["figure"]
show.waterfall(evidence)

# %% [markdown] lang="en"
# **Explain.** A container has no row named `kernel`: nothing boots. The virtual machine spends
# most of its time between `kernel` and `init`. That is not the *machine* starting; it is the
# *operating system inside* starting.
#
# > **Misconception:** "A virtual machine takes minutes to start." What takes long is what is
# > booted in it. A guest of a few instructions, without an operating system, runs after
# > milliseconds.
#
# **What does `tcg` mean?** A guest's instructions are run by the processor itself (`kvm`), or
# translated by a program (`tcg`, QEMU's emulator). Emulation goes through the same phases in the
# same order, but many times more slowly. So `vm[tcg]` tells you **what** happens during a boot; it
# does **not** tell how fast virtual machines are.
#
# ### Exercise 1: where did most of the time go?
#
# `phases` maps events to nanoseconds since the request, in no particular order; events that were
# not seen are missing. Between which two *neighbouring* events did most of the time pass? Return
# `(before, after, nanoseconds)`.
#
# Your function is tried on what you just saw *and* on made-up instances. So do not type in an
# answer; write down how it is found.

# %% [markdown] lang="ko" src="cf7fd3a1"
# **설명하기.** 컨테이너에는 `kernel` 줄이 없습니다. 부팅하는 것이 없기 때문입니다. 가상 머신은
# 시간의 대부분을 `kernel`과 `init` 사이에서 씁니다. 이것은 *머신*이 켜지는 시간이 아니라 *그
# 안의 운영체제*가 켜지는 시간입니다.
#
# > **흔한 오해:** "가상 머신은 켜는 데 몇 분이 걸린다." 오래 걸리는 것은 그 안에서 부팅하는
# > 운영체제입니다. 운영체제 없이 명령어 몇 개로만 된 게스트는 몇 밀리초면 돌아갑니다.
#
# **`tcg`는 무슨 뜻일까요?** 게스트의 명령어는 프로세서가 직접 실행하거나(`kvm`), 프로그램이
# 번역해서 실행합니다(`tcg`, QEMU의 에뮬레이터). 에뮬레이션도 같은 단계를 같은 순서로 거치지만 몇
# 배나 느립니다. 그래서 `vm[tcg]`는 부팅할 때 **무슨 일이** 일어나는지는 알려 주지만, 가상 머신이
# 얼마나 빠른지는 알려 주지 **않습니다**.
#
# ### 연습 1: 시간을 가장 많이 쓴 구간은?
#
# `phases`는 사건의 이름을 요청 이후의 나노초에 대응시킨 딕셔너리입니다. 순서는 뒤섞여 있고,
# 관찰되지 않은 사건은 빠져 있습니다. *서로 이웃한* 두 사건 가운데 어느 둘 사이에서 시간이 가장
# 많이 흘렀나요? `(앞, 뒤, 나노초)`를 반환하세요.
#
# 여러분의 함수는 방금 본 값뿐 아니라 지어낸 값으로도 시험합니다. 답을 적지 말고 답을 찾는 방법을
# 쓰세요.


# %%
def longest_step(phases):
    # BEGIN SOLUTION
    names = sorted(phases, key=phases.get)
    steps = [(a, b, phases[b] - phases[a]) for a, b in zip(names, names[1:], strict=False)]
    return max(steps, key=lambda step: step[2])
    # END SOLUTION


# %% tags=["check"]
lesson.check_longest_step(longest_step, evidence)

# %% [markdown] lang="en"
# ## 4. Who am I? Same image, other kernel
#
# Each instance was asked some questions from inside. Two of the answers matter most:
# `rootfs_fingerprint` is a hash over the names and contents of all files that it sees; `boot_id`
# is drawn at random by a kernel each time that kernel starts.

# %% [markdown] lang="ko" src="a96e7dd2"
# ## 4. 나는 누구인가? 같은 이미지, 다른 커널
#
# 인스턴스 안에 들어가 몇 가지를 물어보았습니다. 가장 중요한 대답은 두 가지입니다.
# `rootfs_fingerprint`는 안에서 보이는 모든 파일의 이름과 내용으로 계산한 해시이고, `boot_id`는
# 커널이 켜질 때마다 무작위로 뽑는 값입니다.

# %% tags=["figure"]
show.identity(evidence)

# %% [markdown] lang="en"
# ### Exercise 2: which of them share a kernel?
#
# `facts` maps a name (`"host"`, `"container"`, `"vm"`) to the answers of that instance, as below.
# Return a set of frozensets of names, one for each kernel: `{frozenset({"host", …}), …}`.

# %% [markdown] lang="ko" src="cdc3bb2b"
# ### 연습 2: 누구와 누가 커널을 함께 쓸까?
#
# `facts`는 이름(`"host"`, `"container"`, `"vm"`)을 그 인스턴스의 대답에 대응시킨 딕셔너리로,
# 아래와 같습니다. 커널마다 하나씩, 이름을 묶은 frozenset을 set에 담아 반환하세요:
# `{frozenset({"host", …}), …}`.

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
lesson.check_kernels(kernels, evidence)

# %% [markdown] lang="en"
# **Explain.** The fingerprint is the same for all three: it *is* one image. Process and container
# also have the same `boot_id`, and every virtual machine has one of its own.
#
# > **Misconception:** "A container is a small virtual machine." It is a process of the host's
# > kernel. It sees fewer processes and its own limits because the kernel *shows* it less; nothing
# > is emulated for that.
#
# The virtual machine was given as much memory as the container may use, yet it sees less: its
# kernel took its share first.

# %% [markdown] lang="ko" src="10bdb289"
# **설명하기.** 지문은 셋 모두 같습니다. 정말로 *같은* 이미지이기 때문입니다. 프로세스와
# 컨테이너는 `boot_id`도 같고, 가상 머신은 저마다 다른 `boot_id`를 가집니다.
#
# > **흔한 오해:** "컨테이너는 작은 가상 머신이다." 컨테이너는 호스트 커널 위에서 도는
# > 프로세스입니다. 프로세스가 적게 보이고 제한이 따로 있는 것은 커널이 적게 *보여 주기*
# > 때문이지, 무언가를 흉내 내기 때문이 아닙니다.
#
# 가상 머신에는 컨테이너의 제한과 똑같은 메모리를 주었는데도 안에서는 더 적게 보입니다. 게스트의
# 커널이 자기 몫을 먼저 가져갔기 때문입니다.

# %% [markdown] lang="en"
# ## 5. How much memory?
#
# "It takes 2 MB" says nothing before you know what was counted:
#
# * **RSS** counts every page that the process has mapped. A page that ten processes share is
#   counted ten times.
# * **PSS** divides each shared page among its sharers. Sums of it can be trusted.
# * **USS** counts only the pages that nobody else has: what would be free if it ended.
#
# All three are read from the host. For a virtual machine they are those of the QEMU process: the
# guest's memory as far as it was ever touched, and the emulator itself.

# %% [markdown] lang="ko" src="208c3263"
# ## 5. 메모리는 얼마나 쓸까?
#
# "2 MB를 쓴다"는 말은 무엇을 세었는지 알기 전에는 아무 뜻이 없습니다.
#
# * **RSS**는 프로세스가 매핑한 페이지를 모두 셉니다. 프로세스 열 개가 공유하는 페이지는 열 번
#   셉니다.
# * **PSS**는 공유하는 페이지를 공유하는 수만큼 나누어 셉니다. 그래서 더해도 되는 값입니다.
# * **USS**는 혼자만 가진 페이지를 셉니다. 그 프로세스가 끝나면 돌려받을 양입니다.
#
# 셋 다 호스트에서 읽습니다. 가상 머신의 값은 QEMU 프로세스의 값입니다. 게스트가 한 번이라도
# 건드린 메모리와 에뮬레이터 자신의 메모리가 들어 있습니다.

# %% tags=["figure"]
show.memory(evidence)

# %% tags=["figure"]
show.pairs(evidence)

# %% [markdown] lang="en"
# **Explain.** Compare *alone* with *one of two*. The second process maps the same file as the
# first, so USS falls although nothing in it changed: what an instance "takes" depends on its
# neighbours. Two containers share in the same way, because one directory lies below both. Two
# virtual machines share QEMU's own program and the file of the guest's kernel; what a guest keeps
# in *its* memory it shares with nobody.
#
# > **Misconception:** "Add up RSS, and you know what is in use." The last column of the table is
# > what that counts twice.
#
# ### Exercise 3: what do they take together?
#
# `readings` holds one mapping for each instance, such as `{"rss": …, "pss": …, "uss": …}`, in
# bytes. How many bytes do they take *together*? A reading can be missing. If the sum cannot be
# told then, return `None`: a gap is not zero.

# %% [markdown] lang="ko" src="57fc97ca"
# **설명하기.** *혼자*일 때와 *둘 중 하나*일 때를 견주어 보세요. 두 번째 프로세스는 첫 번째와
# 같은 파일을 매핑합니다. 그래서 프로세스 안에서 달라진 것이 없는데도 USS가 줄어듭니다.
# 인스턴스가 "쓰는" 양은 이웃이 누구냐에 달려 있습니다. 컨테이너 둘도 아래에 깔린 디렉터리가
# 하나라서 똑같이 공유합니다. 가상 머신 둘은 QEMU 프로그램과 게스트 커널 파일을 공유하지만,
# 게스트가 *자기* 메모리에 둔 것은 아무와도 공유하지 않습니다.
#
# > **흔한 오해:** "RSS를 모두 더하면 실제 사용량이다." 표의 마지막 열이 두 번 센 양입니다.
#
# ### 연습 3: 모두 합쳐 얼마를 쓸까?
#
# `readings`에는 인스턴스마다 `{"rss": …, "pss": …, "uss": …}` 같은 딕셔너리가 하나씩 들어 있고
# 단위는 바이트입니다. 모두 *합쳐* 몇 바이트를 쓰나요? 값이 빠져 있을 수도 있습니다. 그래서
# 합계를 말할 수 없으면 `None`을 반환하세요. 모르는 값은 0이 아닙니다.


# %%
def really_used(readings):
    # BEGIN SOLUTION
    if any("pss" not in reading for reading in readings):
        return None
    return sum(reading["pss"] for reading in readings)
    # END SOLUTION


# %% tags=["check"]
lesson.check_really_used(really_used, evidence)

# %% [markdown] lang="en"
# ## 6. Now change it: eight times the memory
#
# All that you have seen so far was given 256 MiB. Now a virtual machine is given **128 MiB**, and
# then **1 GiB**. What does its QEMU process *take*, in MiB, while the guest idles?

# %% [markdown] lang="ko" src="d0f8cd3c"
# ## 6. 바꾸어 보기: 메모리를 여덟 배로
#
# 지금까지는 모두 256 MiB를 주었습니다. 이제 가상 머신에 **128 MiB**를, 그다음에는 **1 GiB**를
# 줍니다. 게스트가 쉬는 동안 QEMU 프로세스는 몇 MiB를 *쓸까요*?

# %% tags=["prediction"]
changed = lesson.predict(vm_given_128_mib=None, vm_given_1024_mib=None)
changed

# %% tags=["figure"]
show.given(changed, evidence)

# %% [markdown] lang="en"
# **Explain.** A limit is a ceiling, not a reservation, for the container *and* for the machine:
# the host gives a page to QEMU only when the guest touches it for the first time. A small guest
# can even take more than it was given, because the emulator keeps its translated code beside the
# guest's memory.
#
# > **Misconception:** "A virtual machine takes the memory it was given." It takes what it once
# > touched. A guest that works will touch more, and does not give it back by itself.
#
# ### Exercise 4: what does a limit cost?
#
# `series` maps the memory that was *given* to the memory that was *taken*, both in bytes, in no
# particular order. How many bytes more are taken for each byte more that is given, from the least
# to the most given? (1.0: all that is given is taken. 0.0: giving costs nothing.) Return a
# `float`; `None` if only one amount was tried.

# %% [markdown] lang="ko" src="16ba80e0"
# **설명하기.** 제한은 천장일 뿐 예약이 아닙니다. 컨테이너도 그렇고 *가상 머신도* 그렇습니다.
# 호스트는 게스트가 페이지를 처음 건드릴 때 비로소 QEMU에 그 페이지를 내줍니다. 작은 게스트는
# 받은 것보다 더 많이 쓰기도 합니다. 에뮬레이터가 번역한 코드를 게스트 메모리 옆에 따로 두기
# 때문입니다.
#
# > **흔한 오해:** "가상 머신은 할당한 메모리를 다 차지한다." 한 번이라도 건드린 만큼만
# > 차지합니다. 다만 일을 하는 게스트는 더 많이 건드리고, 저절로 돌려주지는 않습니다.
#
# ### 연습 4: 제한의 값은 얼마일까?
#
# `series`는 *준* 메모리를 *쓴* 메모리에 대응시킨 딕셔너리입니다. 둘 다 바이트이고 순서는 뒤섞여
# 있습니다. 가장 적게 준 때부터 가장 많이 준 때까지, 1바이트를 더 줄 때마다 몇 바이트를 더
# 썼나요? (1.0이면 주는 대로 다 쓴 것이고, 0.0이면 더 주어도 더 쓰지 않은 것입니다.) `float`로
# 반환하되, 한 가지만 시도했으면 `None`을 반환하세요.


# %%
def price(series):
    # BEGIN SOLUTION
    if len(series) < 2:
        return None
    least, most = min(series), max(series)
    return (series[most] - series[least]) / (most - least)
    # END SOLUTION


# %% tags=["check"]
lesson.check_price(price, evidence)

# %% [markdown] lang="en"
# ## 7. What is a container made of?
#
# There is no system call named "make a container". The runtime first *decides* on a list of
# ordinary calls, the plan, and then makes them one by one. These are the ones to know; open the
# whole plan and find each of them. (`isoscope run --explain IMAGE` prints it in a terminal.)

# %% [markdown] lang="ko" src="ba6af146"
# ## 7. 컨테이너는 무엇으로 만들까?
#
# "컨테이너를 만들어라"라는 시스템 콜은 없습니다. 런타임은 먼저 평범한 호출들의 목록, 곧 계획을
# *정하고* 나서 하나씩 실행합니다. 아래는 그 가운데 꼭 알아 둘 것들입니다. 전체 계획을 펼쳐
# 하나하나 찾아보세요. (터미널에서는 `isoscope run --explain IMAGE`로 볼 수 있습니다.)

# %% tags=["figure"]
show.plan(evidence)

# %% [markdown] lang="en"
# From the last step on, nothing of the runtime runs inside the container: the process *is* the
# image's program. A virtual machine has no such list. What isolates it is a processor and a few
# devices of its own, real or emulated; and QEMU, which holds them, is again *a process of the
# host*.
#
# ## 8. Prediction and measurement

# %% [markdown] lang="ko" src="83204865"
# 마지막 단계가 끝나면 컨테이너 안에는 런타임이 남아 있지 않습니다. 그 프로세스가 바로 이미지의
# 프로그램 *이기* 때문입니다. 가상 머신에는 이런 목록이 없습니다. 가상 머신을 격리하는 것은
# (진짜이든 흉내 낸 것이든) 자기만의 프로세서와 몇 가지 장치입니다. 그리고 그것들을 품은 QEMU도
# 결국 *호스트의 프로세스*입니다.
#
# ## 8. 예상과 측정

# %% tags=["figure"]
show.compare(prediction, evidence)

# %% [markdown] lang="en"
# Which prediction missed by the largest factor? Say in one sentence what you believed that made
# you write it down. That sentence is what you have learned today.
#
# ## 9. Verdict
#
# These sentences stand in an introduction to Docker. A verdict is as narrow as the evidence:
# CONFIRMED-IF names its condition, and CANNOT-TELL-HERE is an honest answer. Which measurement
# would you need to judge the last one?

# %% [markdown] lang="ko" src="af3ab2ff"
# 가장 크게 빗나간 예상은 무엇인가요? 무엇을 믿고 있었기에 그렇게 적었는지 한 문장으로 말해
# 보세요. 그 문장이 바로 오늘 배운 것입니다.
#
# ## 9. 판정
#
# 도커를 소개하는 글에 나오는 문장들입니다. 판정은 증거가 말해 주는 만큼만 합니다. '조건부로
# 확인됨'에는 조건이 붙고, '여기서는 알 수 없음'도 정직한 대답입니다. 마지막 문장을 판정하려면
# 무엇을 더 재야 할까요?

# %% tags=["figure"]
show.claims(evidence)

# %% [markdown] lang="en"
# **The sentence from the beginning** has four words, and each needs an experiment of its own:
# *heavy* (memory or disk? by which definition?), *slow* (to start or at work?), *light*, *fast*.
# You have measured two things, the start and the idle memory, a few times on one machine.
# `isoscope bench` measures more, and often enough to state intervals.
#
# ### Play
#
# Ask anything inside all three. Predict first: what will `("ls", "/proc")` show, or
# `("cat", "/proc/meminfo")`, or `("mount",)`? In one of the three, `MemTotal` is not what you
# might expect. Which one, and why?

# %% [markdown] lang="ko" src="ccddd80f"
# **처음의 문장**에는 낱말이 네 개 있고, 낱말마다 따로 실험이 필요합니다. *무겁다*(메모리인가
# 디스크인가? 어떤 정의로?), *느리다*(시작할 때인가 일할 때인가?), *가볍다*, *빠르다*. 오늘은
# 그중 시작 시간과 쉴 때의 메모리 두 가지를, 컴퓨터 한 대에서 몇 번 재어 보았습니다.
# `isoscope bench`는 더 많은 것을, 구간을 말할 수 있을 만큼 여러 번 잽니다.
#
# ### 놀아 보기
#
# 셋 안에서 무엇이든 물어보세요. 물론 예상이 먼저입니다. `("ls", "/proc")`,
# `("cat", "/proc/meminfo")`, `("mount",)`는 무엇을 보여 줄까요? 셋 중 하나에서는 `MemTotal`이
# 뜻밖의 값으로 나옵니다. 어느 것이고, 왜 그럴까요?

# %%
lesson.ask(evidence, "uname", "-r")
