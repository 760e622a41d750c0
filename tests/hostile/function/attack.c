/* Makes the system call that the first argument names, without libc; exits with its errno, 0 for success. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long direct(long number, long a, long b, long c, long d, long e) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = 0;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
#endif
}

#if defined(__x86_64__)
static long interrupt(long number) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(0), "c"(0), "d"(0) : "memory");
  return result;
}
#define X32 0x40000000L
#endif

static int ended(long result) { return result < 0 ? (int)-result : 0; }

/* If a clone gets through, its child exits at once. */
static int cloned(long flags) {
  long result = direct(SYS_clone, flags, 0, 0, 0, 0);
  if (result == 0) _exit(0);
  return ended(result);
}

static int allow_all_then_mount(void) {
  struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {.len = 1, .filter = allow};
  direct(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program, 0, 0);
  return ended(direct(SYS_mount, 0, (long)"/nowhere", 0, 0, 0));
}

int main(int count, char **words) {
  const char *what = count > 1 ? words[1] : "";
  const long high = 0x100000000L;
  struct { const char *name; long flag; } flags[] = {
      {"clone-newuser", 0x10000000}, {"clone-newns", 0x00020000},  {"clone-newpid", 0x20000000},
      {"clone-newnet", 0x40000000},  {"clone-newipc", 0x08000000}, {"clone-newuts", 0x04000000},
      {"clone-newcgroup", 0x02000000}};
  for (unsigned at = 0; at < sizeof flags / sizeof *flags; at++)
    if (!strcmp(what, flags[at].name)) return cloned(flags[at].flag | SIGCHLD);
#define CASE(name, result) if (!strcmp(what, name)) return ended(result)
#if defined(__x86_64__)
  CASE("int80-getpid", interrupt(20));
  CASE("int80-mount", interrupt(21));
  CASE("x32-getpid", direct(X32 | SYS_getpid, 0, 0, 0, 0, 0));
  CASE("x32-ptrace", direct(X32 | 521, 0, 0, 0, 0, 0));
#else /* aarch64 has neither, which counts as a refusal */
  if (!strncmp(what, "int80", 5) || !strncmp(what, "x32", 3)) return kill(getpid(), SIGSYS), 0;
#endif
  CASE("direct-mount", direct(SYS_mount, 0, (long)"/nowhere", 0, 0, 0));
  CASE("direct-unshare", direct(SYS_unshare, 0x10000000, 0, 0, 0, 0));
  CASE("direct-ptrace", direct(SYS_ptrace, 0, 0, 0, 0, 0));
  CASE("direct-bpf", direct(SYS_bpf, 0, 0, 0, 0, 0));
  CASE("direct-keyctl", direct(SYS_keyctl, 0, -3, 0, 0, 0));
  CASE("direct-chroot", direct(SYS_chroot, (long)"/", 0, 0, 0, 0));
  CASE("direct-setns", direct(SYS_setns, -1, 0, 0, 0, 0));
  CASE("direct-io_uring", direct(SYS_io_uring_setup, 1, 0, 0, 0, 0));
  CASE("high-socket", direct(SYS_socket, high | 17, high | 3, high | 0x0300, 0, 0));
  if (!strcmp(what, "high-clone")) return cloned(high | 0x10000000 | SIGCHLD);
  CASE("high-personality", direct(SYS_personality, high | 8, 0, 0, 0, 0));
  CASE("high-number", direct(high | SYS_mount, 0, (long)"/nowhere", 0, 0, 0));
  if (!strcmp(what, "clone3-newuser")) {
    uint64_t arguments[11] = {0x10000000, 0, 0, 0, SIGCHLD};
    return ended(direct(SYS_clone3, (long)arguments, sizeof arguments, 0, 0, 0));
  }
  CASE("no-new-privs-off", direct(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
  CASE("seccomp-off", direct(SYS_prctl, PR_SET_SECCOMP, 0, 0, 0, 0));
  if (!strcmp(what, "filter-allow-all-then-mount")) return allow_all_then_mount();
  puts("no such call");
  return 200;
}
