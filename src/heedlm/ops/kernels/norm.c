// Rows divided by the root of their mean square, and the gradient; `__init__.py` says what the arguments mean.
#include "lanes.h"

enum { BLOCK = 64 };  // rows whose part of a weight's gradient is summed by one thread, however many threads there are

// Numbers i.. of a row of `dim`, in this precision or in bfloat16; zeros beyond its end.
static inline lanes some(const void *row, int half, int i, int dim) {
  lanes x = {0};
#ifdef SINGLE
  if (half) {
    const uint16_t *from = (const uint16_t *)row + i;
    if (i + LANES <= dim) return load_half(from);
    uint16_t rest[LANES] = {0};
    memcpy(rest, from, (dim - i) * sizeof *from);
    return load_half(rest);
  }
#endif
  (void)half;
  const REAL *from = (const REAL *)row + i;
  if (i + LANES <= dim) return load(from);
  memcpy(&x, from, (dim - i) * sizeof *from);
  return x;
}

static inline void keep(void *row, int half, int i, int dim, lanes x) {
  int count = i + LANES <= dim ? LANES : dim - i;
#ifdef SINGLE
  if (half) {
    uint16_t all[LANES], *to = (uint16_t *)row + i;
    if (count == LANES) {
      store_half(to, x);
      return;
    }
    store_half(all, x);
    memcpy(to, all, count * sizeof *to);
    return;
  }
#endif
  (void)half;
  REAL *to = (REAL *)row + i;
  if (count == LANES)
    store(to, x);
  else
    memcpy(to, &x, count * sizeof *to);
}

static inline void *row_of(const void *x, int half, long row, int dim) {
  return (char *)x + row * dim * (half ? (long)sizeof(uint16_t) : (long)sizeof(REAL));
}

void rms_norm(const REAL *x, const REAL *weight, double eps, long rows, int dim, int half, void *out, REAL *inverses,
              int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++) {
    const REAL *from = x + row * dim;
    void *to = row_of(out, half, row, dim);
    lanes squares = {0};
    for (int d = 0; d < dim; d += LANES) {
      lanes part = some(from, 0, d, dim);
      squares += part * part;
    }
    REAL by = 1 / (REAL)sqrt(sum_of(squares) / dim + eps);
    inverses[row] = by;
    for (int d = 0; d < dim; d += LANES) keep(to, half, d, dim, some(from, 0, d, dim) * by * some(weight, 0, d, dim));
  }
}

void rms_norm_backward(const void *grad, int half, const REAL *x, const REAL *weight, const REAL *inverses, long rows,
                       int dim, REAL *of_x, REAL *of_weight, int threads) {
  long blocks = (rows + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long block = 0; block < blocks; block++) {
    REAL *sums = of_weight + block * dim;
    long end = (block + 1) * BLOCK < rows ? (block + 1) * BLOCK : rows;
    memset(sums, 0, dim * sizeof *sums);
    for (long row = block * BLOCK; row < end; row++) {
      const REAL *from = x + row * dim;
      const void *given = row_of(grad, half, row, dim);
      REAL *to = of_x + row * dim, by = inverses[row];
      lanes along = {0};
      for (int d = 0; d < dim; d += LANES) {
        lanes part = some(given, half, d, dim) * some(from, 0, d, dim);
        along += part * some(weight, 0, d, dim);
        keep(sums, 0, d, dim, some(sums, 0, d, dim) + part * by);
      }
      REAL back = sum_of(along) * by * by * by / dim;
      for (int d = 0; d < dim; d += LANES)
        keep(to, 0, d, dim, some(given, half, d, dim) * some(weight, 0, d, dim) * by - some(from, 0, d, dim) * back);
    }
  }
}
