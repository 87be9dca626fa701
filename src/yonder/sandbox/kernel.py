"""Linux kernel confinement for one process that is about to run a stranger's code, through ctypes.

Four layers, each of which the kernel enforces whatever the Python code above it does:
Landlock deny-all (no path can be opened, no TCP port used, no process outside signalled), a seccomp allow-list (no
system call beyond memory, clocks, and reading or writing what is already open: so no open, socket, fork, exec, kill
or ptrace), resource limits, and an unprivileged user id where we start as root.

NOT covered: flaws in the kernel itself, timing channels, and processor time shared with the host. Linux on x86_64 and
aarch64 only; elsewhere every function raises OSError and the caller must refuse.
"""

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable
from functools import cache

if sys.platform != "win32":
    import resource  # here, since nothing can be imported once confined

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # the same numbers on every architecture
_NOBODY = 65534

# Highest bit of file access that each Landlock ABI handles; from 4 on TCP, from 6 on scopes.
_LANDLOCK_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # _DENY: fail with EPERM
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06

# What CPython needs to compute and to write its answer. Order: read write close fstat lseek mmap mprotect munmap brk
# rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap madvise nanosleep getpid exit gettimeofday sigaltstack
# gettid futex restart_syscall clock_gettime clock_getres clock_nanosleep exit_group getrandom.
_CALLS = {
    "x86_64": (
        0xC000003E,
        *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 35, 39, 60, 96, 131),
        *(186, 202, 219, 228, 229, 230, 231, 318),
    ),
    "aarch64": (
        0xC00000B7,
        *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 124, 216, 233, 101, 172, 93, 169, 132),
        *(178, 98, 128, 113, 114, 115, 94, 278),
    ),
}


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction))]


@cache
def _library() -> ctypes.CDLL:
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        raise OSError(f"no confinement on {sys.platform} {platform.machine()}: it needs Linux on x86_64 or aarch64")
    return ctypes.CDLL(None, use_errno=True)


def _check(outcome: int, what: str) -> int:
    if outcome < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return outcome


def _control(library: ctypes.CDLL, option: int, value: int, argument: object = 0) -> None:
    """Call prctl with full-width arguments (a variadic C function does not widen them for us)."""
    third = argument if not isinstance(argument, int) else ctypes.c_ulong(argument)
    outcome = library.prctl(ctypes.c_int(option), ctypes.c_ulong(value), third, ctypes.c_ulong(0), ctypes.c_ulong(0))
    _check(outcome, f"prctl {option}")


def forbid_new_privileges() -> None:
    """Make privileges a one-way street; Landlock and seccomp ask for it."""
    _control(_library(), _PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies. Call after any change of user id, which clears it."""
    _control(_library(), _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)


def forbid_files() -> None:
    """Enter a Landlock domain with no rules: no file access, TCP or signal to the outside (as far as its ABI goes)."""
    library = _library()
    version = _check(library.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)), "Landlock")
    files = (1 << _LANDLOCK_FILE_BITS.get(version, 16)) - 1
    network = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    fields = 3 if version >= 6 else 2 if version >= 4 else 1
    attributes = (ctypes.c_uint64 * 3)(files, network, scopes)
    size = ctypes.c_size_t(8 * fields)
    rules = _check(library.syscall(_LANDLOCK_CREATE, attributes, size, ctypes.c_uint32(0)), "Landlock ruleset")
    try:
        _check(library.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)), "Landlock restrict")
    finally:
        os.close(rules)


def forbid_calls() -> None:
    """Install the seccomp allow-list. Every other system call fails with EPERM from here on."""
    _control(_library(), _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(call_filter()))


@cache
def call_filter() -> _Program:
    """The allow-list as a BPF program. Build it before forking: the children then share it."""
    architecture, *calls = _CALLS[platform.machine()]
    lines = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_JUMP_EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    lines += [(_RETURN, 0, 0, _DENY), (_RETURN, 0, 0, _ALLOW)]
    instructions = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    return _Program(len(lines), instructions)


def drop_user() -> None:
    """Become an unprivileged user where we are root; a uid of its own also keeps a child from signalling its server."""
    if sys.platform != "win32" and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def limit_resources(address_space: int, cpu_s: int) -> None:
    """Bound memory and processor time; no new process, file, file growth or core dump."""
    if sys.platform == "win32":
        raise OSError("no resource limits on Windows")
    bounds = {
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for which, bound in bounds.items():
        resource.setrlimit(which, (bound, bound))


def confine(address_space: int, cpu_s: int, parent_pid: int) -> None:
    """Apply every layer to this process, for good. Raises OSError if one is missing: then run nothing."""
    drop_user()
    forbid_new_privileges()
    die_with_parent(parent_pid)
    forbid_files()
    limit_resources(address_space, cpu_s)
    forbid_calls()


def what_still_works(attempts: dict[str, Callable[[], object]]) -> list[str]:
    """Try forbidden acts; the names of those which succeeded."""
    worked: list[str] = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, MemoryError):
            continue
        worked.append(name)
    return worked
