/* Loaded into a process (LD_PRELOAD), tells it another wall clock: the true one plus as many seconds as the file says that
 * WALL_CLOCK_STEP names. The monotonic clock stays the true one, as on a machine whose wall clock is set.
 *
 * libfaketime is not used: with the monotonic clock left alone it lets cnd_timedwait sleep until the *true* clock shows
 * the stepped deadline, which no real step does, and which stops librdkafka for an hour. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define LOOK_AGAIN_NS 50000000LL

static _Atomic long step_seconds;
static _Atomic long long looked_at_ns;

static long step(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  long long now_ns = now.tv_sec * 1000000000LL + now.tv_nsec, last_ns = looked_at_ns;
  if (now_ns - last_ns > LOOK_AGAIN_NS && atomic_compare_exchange_strong(&looked_at_ns, &last_ns, now_ns)) {
    const char *path = getenv("WALL_CLOCK_STEP");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    char text[32] = {0};
    if (file >= 0 && read(file, text, sizeof text - 1) > 0) step_seconds = strtol(text, NULL, 10);
    if (file >= 0) close(file);
  }
  return step_seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = syscall(SYS_clock_gettime, clock, time);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += step();
  return failed;
}

/* The kernel waits by the true clock, so a deadline by the other one is put back. */
int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *deadline) {
  static int (*_Atomic wait)(cnd_t *, mtx_t *, const struct timespec *);
  if (!wait) wait = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec now, by_true_clock = *deadline;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  long ahead = step();
  if (labs(deadline->tv_sec - now.tv_sec - ahead) < labs(deadline->tv_sec - now.tv_sec)) by_true_clock.tv_sec -= ahead;
  return wait(condition, mutex, &by_true_clock);
}
