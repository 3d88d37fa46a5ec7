/* Loaded into the server before the C library: while the file named by HEED_FAIL_FLAG exists, one in so many writes and
   fsyncs of the database's files fails with EIO. `cc -shared -fPIC -o failing.so failing.c -ldl` */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
  const char *flag = getenv("HEED_FAIL_FLAG");
  if (!flag || access(flag, F_OK) != 0) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  if (!strstr(path, ".db")) return 0;
  static unsigned long calls = 0;
  return __sync_add_and_fetch(&calls, 1) % 3 == 0;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int fsync(int fd) {
  REAL(fsync);
  if (fails(fd)) { errno = EIO; return -1; }
  return real(fd);
}
int fdatasync(int fd) {
  REAL(fdatasync);
  if (fails(fd)) { errno = EIO; return -1; }
  return real(fd);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  REAL(pwrite64);
  if (fails(fd)) { errno = EIO; return -1; }
  return real(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  REAL(pwrite);
  if (fails(fd)) { errno = EIO; return -1; }
  return real(fd, data, size, at);
}
