// What a decode step consists of besides its large products; `__init__.py` says what the arguments mean.
#include "lanes.h"

// A head turned by its position: rotary pairs lie side by side, and so do their cosine and sine.
static void turned(const REAL *x, const REAL *turns, int dim, REAL *out) {
  if (!turns) {
    memcpy(out, x, dim * sizeof *x);
    return;
  }
  for (int i = 0; i < dim; i += 2) {
    REAL cosine = turns[i], sine = turns[i + 1];
    out[i] = x[i] * cosine - x[i + 1] * sine;
    out[i + 1] = x[i] * sine + x[i + 1] * cosine;
  }
}

// Products of a query with the keys in columns from..to of a block (dim, width), in whole vectors.
static void score(const REAL *q, const REAL *keys, int width, int dim, int from, int to, REAL scale, REAL *out) {
  int t = from;
  for (; t + LANES < to; t += 2 * LANES) {
    lanes first = {0}, second = {0};
    for (int d = 0; d < dim; d++) {
      first += q[d] * load(keys + d * width + t);
      second += q[d] * load(keys + d * width + t + LANES);
    }
    store(out + t, first * scale);
    store(out + t + LANES, second * scale);
  }
  if (t < to) {
    lanes last = {0};
    for (int d = 0; d < dim; d++) last += q[d] * load(keys + d * width + t);
    store(out + t, last * scale);
  }
}

// Adds `count` rows of values (count, dim), each times its share. Four sums, so that none waits for the one before.
#define MIX(kind, step)                                         \
  for (; d + step <= dim; d += step) {                          \
    const REAL *v = values + d;                                 \
    kind a = *(const kind *)(out + d), b = {0}, c = {0}, e = {0}; \
    int t = 0;                                                  \
    for (; t + 4 <= count; t += 4, v += 4 * dim) {              \
      a += share[t] * *(const kind *)v;                         \
      b += share[t + 1] * *(const kind *)(v + dim);             \
      c += share[t + 2] * *(const kind *)(v + 2 * dim);         \
      e += share[t + 3] * *(const kind *)(v + 3 * dim);         \
    }                                                           \
    for (; t < count; t++, v += dim) a += share[t] * *(const kind *)v; \
    *(kind *)(out + d) = (a + b) + (c + e);                     \
  }

static void mix(const REAL *share, const REAL *values, int count, int dim, REAL *out) {
  int d = 0;
  MIX(lanes, LANES)
  MIX(few_lanes, LANES / 2)
}

void attend(const REAL *q, long q_stride, const REAL *k, long k_stride, const REAL *v, long v_stride, const REAL *turns,
            REAL *const *keys, REAL *const *values, int width, const int64_t *first, int column, int rows, int heads,
            int kv_heads, int dim, double scale, REAL *out, REAL *scratch, int threads) {
  int group = heads / kv_heads, newest = column / width, within = column % width;
  long room = (long)(newest + 1) * width;
  // Rows come in the order of their lengths: dealt out one by one, every thread gets long ones and short ones.
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int row = 0; row < rows; row++) {
    REAL *scores = scratch + row * (room + dim), *query = scores + room;
    const REAL *here = turns ? turns + (long)row * dim : 0;
    int start = (int)first[row], low = start - start % LANES;
    for (int h = 0; h < kv_heads; h++) {
      long slot = ((long)row * kv_heads + h) * width * dim;
      turned(k + row * k_stride + h * dim, here, dim, query);
      for (int d = 0; d < dim; d++) keys[newest][slot + d * width + within] = query[d];
      memcpy(values[newest] + slot + within * dim, v + row * v_stride + h * dim, dim * sizeof *v);
      for (int g = h * group; g < (h + 1) * group; g++) {
        REAL *mixed = out + ((long)row * heads + g) * dim;
        turned(q + row * q_stride + g * dim, here, dim, query);
        for (int b = low / width; b <= newest; b++) {
          int from = b * width < low ? low - b * width : 0, to = b == newest ? within + 1 : width;
          score(query, keys[b] + slot, width, dim, from, to, (REAL)scale, scores + b * width);
        }
        REAL most, share = 1 / weigh(scores, start, column, &most);
        memset(mixed, 0, dim * sizeof *mixed);
        for (int b = start / width; b <= newest; b++) {
          int from = b * width < start ? start - b * width : 0, to = b == newest ? within + 1 : width;
          mix(scores + b * width + from, values[b] + slot + from * dim, to - from, dim, mixed);
        }
        for (int d = 0; d < dim; d++) mixed[d] *= share;
      }
    }
  }
}

// ---------------------------------------------------------------- between the products

// x / (1 + e^-x), without a power that could overflow.
static inline lanes silu(lanes x) {
  lanes zero = {0}, power = exponential(zero - larger(x, zero - x));
  bits positive = (bits)(x > zero);
  lanes above = (lanes)((positive & (bits)spread(1)) | (~positive & (bits)power));
  return x * above / (1 + power);
}

void gate(const REAL *x, int rows, int dim, REAL *out, int threads) {
  int even = dim - dim % LANES;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int row = 0; row < rows; row++) {
    const REAL *gates = x + (long)row * 2 * dim, *ups = gates + dim;
    REAL *to = out + (long)row * dim;
    for (int d = 0; d < even; d += LANES) store(to + d, silu(load(gates + d)) * load(ups + d));
    for (int d = even; d < dim; d++) to[d] = gates[d] / (1 + (REAL)exp(-gates[d])) * ups[d];
  }
}
