/*
 * Delays what InnoDB writes to its redo log, so that a test can stand in the window between
 * "other sessions see the commit" and "the commit is on disk". Without it the window is one flush.
 *
 * Load it with LD_PRELOAD into mariadbd. It sleeps *before* the call it delays: a server that is
 * killed meanwhile has not written what it already showed.
 *
 *   SLOW_LOG_MS       milliseconds before each pwrite to a file whose path contains "ib_logfile" (default 0)
 *   SLOW_LOG_SYNC_MS  the same before fsync and fdatasync (default 0)
 *   SLOW_LOG_SWITCH   path of a file: delays happen only while it exists (unset: always)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <stdio.h>

#define CACHE_SIZE 64

/* A verdict holds for a file, not for a descriptor number: numbers are given out again after close(). */
struct verdict {
    int fd_plus_one; /* 0: the place is empty */
    dev_t device;
    ino_t inode;
    int is_log;
};

static __thread struct verdict cache[CACHE_SIZE];
static long write_delay_ms;
static long sync_delay_ms;
static const char *switch_path;

static ssize_t (*next_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*next_pwrite64)(int, const void *, size_t, off64_t);
static ssize_t (*next_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*next_pwritev64)(int, const struct iovec *, int, off64_t);
static int (*next_fsync)(int);
static int (*next_fdatasync)(int);

static long milliseconds(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void prepare(void)
{
    write_delay_ms = milliseconds("SLOW_LOG_MS");
    sync_delay_ms = milliseconds("SLOW_LOG_SYNC_MS");
    switch_path = getenv("SLOW_LOG_SWITCH");
    *(void **)&next_pwrite = dlsym(RTLD_NEXT, "pwrite");
    *(void **)&next_pwrite64 = dlsym(RTLD_NEXT, "pwrite64");
    *(void **)&next_pwritev = dlsym(RTLD_NEXT, "pwritev");
    *(void **)&next_pwritev64 = dlsym(RTLD_NEXT, "pwritev64");
    *(void **)&next_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&next_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
}

static int path_is_log(int fd)
{
    char link[64];
    char path[4096];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    return strstr(path, "ib_logfile") != NULL;
}

static int is_log(int fd)
{
    struct verdict *place = &cache[(unsigned)fd % CACHE_SIZE];
    struct stat status;

    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return 0;
    if (place->fd_plus_one != fd + 1 || place->device != status.st_dev || place->inode != status.st_ino) {
        place->fd_plus_one = fd + 1;
        place->device = status.st_dev;
        place->inode = status.st_ino;
        place->is_log = path_is_log(fd);
    }
    return place->is_log;
}

static void delay(int fd, long ms)
{
    int saved = errno;

    if (ms > 0 && is_log(fd) && (switch_path == NULL || access(switch_path, F_OK) == 0)) {
        struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
            ;
    }
    errno = saved;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    delay(fd, write_delay_ms);
    return next_pwrite(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    delay(fd, write_delay_ms);
    return next_pwrite64(fd, data, size, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    delay(fd, write_delay_ms);
    return next_pwritev(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    delay(fd, write_delay_ms);
    return next_pwritev64(fd, parts, count, offset);
}

int fsync(int fd)
{
    delay(fd, sync_delay_ms);
    return next_fsync(fd);
}

int fdatasync(int fd)
{
    delay(fd, sync_delay_ms);
    return next_fdatasync(fd);
}
