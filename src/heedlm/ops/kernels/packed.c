// Causal attention of sequences that lie end to end, and its gradient; `__init__.py` says what the arguments mean.
// Queries are taken four at a time, so that what is read of keys and values serves all four.
#include <stdlib.h>

#include "lanes.h"

enum { ROWS = 4, PAIR = 2 * LANES, TILE = 64 };

typedef struct {
  void *data;
  long token, head;  // strides, in numbers
} heads_of;

typedef struct {
  long prefix, ahead, start, own;  // where the shared prefix and the own tokens begin, and how many they are
} piece;

typedef struct {
  const piece *pieces;
  const int64_t *families;  // where each family's pieces begin: a root, then what follows it
  int count, heads, kv_heads, dim, half;
  long window;
  double scale;
  int threads;
} work;

static inline int up(int number, int unit) { return (number + unit - 1) / unit * unit; }

// ---------------------------------------------------------------- between tensors and rows of whole vectors

static void get(const heads_of *x, int half, long token, int head, int dim, REAL by, REAL *to) {
  long at = token * x->token + head * x->head;
#ifdef SINGLE
  if (half) {
    const uint16_t *from = (const uint16_t *)x->data + at;
    for (int d = 0; d < dim; d++) {
      union { uint32_t bits; float number; } wide = {(uint32_t)from[d] << 16};
      to[d] = wide.number * by;
    }
    return;
  }
#endif
  const REAL *from = (const REAL *)x->data + at;
  for (int d = 0; d < dim; d++) to[d] = from[d] * by;
  (void)half;
}

static void put(const heads_of *x, int half, long token, int head, int dim, REAL by, const REAL *from) {
  long at = token * x->token + head * x->head;
#ifdef SINGLE
  if (half) {
    uint16_t *to = (uint16_t *)x->data + at;
    for (int d = 0; d < dim; d++) {
      union { float number; uint32_t bits; } wide = {from[d] * by};
      int broken = (wide.bits & 0x7fffffffu) > 0x7f800000u;  // NaN, which rounding might make infinite
      to[d] = broken ? 0x7fc0 : (uint16_t)((wide.bits + 0x7fffu + (wide.bits >> 16 & 1)) >> 16);
    }
    return;
  }
#endif
  REAL *to = (REAL *)x->data + at;
  for (int d = 0; d < dim; d++) to[d] = from[d] * by;
  (void)half;
}

// Keys or values of a piece: its prefix, then its own, as rows (n, wide).
static void gather(const heads_of *x, const work *w, const piece *p, int head, int wide, REAL *rows) {
  for (long t = 0; t < p->ahead + p->own; t++) {
    long token = t < p->ahead ? p->prefix + t : p->start + t - p->ahead;
    get(x, w->half, token, head, w->dim, 1, rows + t * wide);
    for (int d = w->dim; d < wide; d++) rows[t * wide + d] = 0;
  }
}

// The same as columns (dim, room); zeros beyond the n-th.
static void transpose(const REAL *rows, int n, int wide, int dim, int room, REAL *columns) {
  for (int d = 0; d < dim; d++) {
    for (int t = 0; t < n; t++) columns[(long)d * room + t] = rows[(long)t * wide + d];
    for (int t = n; t < room; t++) columns[(long)d * room + t] = 0;
  }
}

// ---------------------------------------------------------------- small products

// out[r][t] = q[r] . column t, for four rows and the columns from..to in pairs of vectors.
static void score(const REAL *q, int wide, const REAL *columns, int room, int dim, int from, int to, REAL *out, int apart) {
  for (int t = from; t < to; t += PAIR) {
    lanes sums[ROWS][2] = {{{0}}};
    for (int d = 0; d < dim; d++) {
      lanes a = load(columns + (long)d * room + t), b = load(columns + (long)d * room + t + LANES);
      for (int r = 0; r < ROWS; r++) {
        sums[r][0] += q[r * wide + d] * a;
        sums[r][1] += q[r * wide + d] * b;
      }
    }
    for (int r = 0; r < ROWS; r++) {
      store(out + r * apart + t, sums[r][0]);
      store(out + r * apart + t + LANES, sums[r][1]);
    }
  }
}

// out[r] += sum over t in from..to of share[r][t] rows[t], for four rows.
#define MIX(parts)                                                                                       \
  for (; d + parts * LANES <= wide; d += parts * LANES) {                                                \
    lanes sums[ROWS][parts];                                                                             \
    for (int r = 0; r < ROWS; r++)                                                                       \
      for (int i = 0; i < parts; i++) sums[r][i] = load(out + (long)r * wide + d + i * LANES);           \
    for (int t = from; t < to; t++)                                                                      \
      for (int i = 0; i < parts; i++) {                                                                  \
        lanes x = load(rows + (long)t * wide + d + i * LANES);                                           \
        for (int r = 0; r < ROWS; r++) sums[r][i] += share[r * apart + t] * x;                           \
      }                                                                                                  \
    for (int r = 0; r < ROWS; r++)                                                                       \
      for (int i = 0; i < parts; i++) store(out + (long)r * wide + d + i * LANES, sums[r][i]);           \
  }

static void mix(const REAL *share, int apart, const REAL *rows, int wide, int from, int to, REAL *out) {
  int d = 0;
  MIX(2)
  MIX(1)
}

// rows[t] += sum over four r of share[r][t] x[r], for t in 0..count.
#define SPREAD(parts)                                                                                    \
  for (; d + parts * LANES <= wide; d += parts * LANES) {                                                \
    lanes held[ROWS][parts];                                                                             \
    for (int r = 0; r < ROWS; r++)                                                                       \
      for (int i = 0; i < parts; i++) held[r][i] = load(x + (long)r * wide + d + i * LANES);             \
    for (int t = 0; t < count; t++)                                                                      \
      for (int i = 0; i < parts; i++) {                                                                  \
        REAL *at = rows + (long)t * wide + d + i * LANES;                                                \
        lanes sum = load(at);                                                                            \
        for (int r = 0; r < ROWS; r++) sum += share[r * apart + t] * held[r][i];                         \
        store(at, sum);                                                                                  \
      }                                                                                                  \
  }

static void scatter(const REAL *share, int apart, const REAL *x, int wide, int count, REAL *rows) {
  int d = 0;
  SPREAD(2)
  SPREAD(1)
}

// ---------------------------------------------------------------- both passes

// The most keys and own tokens of any piece.
static void largest(const work *w, int *keys, int *own) {
  *keys = *own = 0;
  for (int64_t i = 0; i < w->families[w->count]; i++) {
    int n = (int)(w->pieces[i].ahead + w->pieces[i].own), m = (int)w->pieces[i].own;
    if (n > *keys) *keys = n;
    if (m > *own) *own = m;
  }
}

static inline int first_seen(const work *w, const piece *p, int i) {
  long first = w->window ? p->ahead + i - w->window + 1 : 0;
  return first > 0 ? (int)first : 0;
}

int packed_forward(const work *w, heads_of q, heads_of k, heads_of v, heads_of out, REAL *logsum, long tokens) {
  int keys, own, group = w->heads / w->kv_heads, wide = up(w->dim, LANES), failed = 0;
  largest(w, &keys, &own);
  int room = up(keys, PAIR);
#pragma omp parallel num_threads(w->threads)
  {
    size_t size = (size_t)keys * wide + (size_t)room * w->dim + (size_t)ROWS * (room + 2 * wide);
    REAL *values = malloc(size * sizeof(REAL)), *columns = values + (size_t)keys * wide;
    REAL *scores = columns + (size_t)room * w->dim, *query = scores + (size_t)ROWS * room, *mixed = query + ROWS * wide;
    if (!values) failed = 1;
#pragma omp for collapse(2) schedule(dynamic)
    for (int f = 0; f < w->count; f++)
      for (int h = 0; h < w->kv_heads; h++)
        for (int64_t number = w->families[f]; values && number < w->families[f + 1]; number++) {
          const piece *p = w->pieces + number;
          int n = (int)(p->ahead + p->own), m = (int)p->own, ahead = (int)p->ahead;
          gather(&k, w, p, h, wide, values);
          transpose(values, n, wide, w->dim, room, columns);
          gather(&v, w, p, h, wide, values);
          for (int head = h * group; head < (h + 1) * group; head++)
            for (int i = 0; i < m; i += ROWS) {
              int rows = m - i < ROWS ? m - i : ROWS, seen = ahead + i + rows, low = first_seen(w, p, i);
              memset(query, 0, 2 * ROWS * wide * sizeof *query);
              for (int r = 0; r < rows; r++)
                get(&q, w->half, p->start + i + r, head, w->dim, (REAL)w->scale, query + r * wide);
              score(query, wide, columns, room, w->dim, low - low % PAIR, seen, scores, room);
              REAL share[ROWS];
              for (int r = 0; r < rows; r++) {
                int first = first_seen(w, p, i + r), last = ahead + i + r;
                REAL *here = scores + (long)r * room, most;
                REAL total = weigh(here, first, last, &most);
                for (int t = low; t < first; t++) here[t] = 0;
                for (int t = last + 1; t < seen; t++) here[t] = 0;
                share[r] = 1 / total;
                logsum[head * tokens + p->start + i + r] = most + (REAL)log(total);
              }
              mix(scores, room, values, wide, low, seen, mixed);
              for (int r = 0; r < rows; r++)
                put(&out, w->half, p->start + i + r, head, w->dim, share[r], mixed + r * wide);
            }
        }
    free(values);
  }
  return failed;
}

// One piece's part of the gradients of one head of keys and values; `of_k` and `of_v` (n, wide) are added to.
typedef struct {
  REAL *columns_k, *columns_v, *rows_k, *rows_v, *query, *grad, *of_query, *delta, *of_k, *of_v, *root_k, *root_v;
} scratch;

static void piece_backward(const work *w, const piece *p, int h, int room, int wide, const scratch *s, const heads_of *q,
                           const heads_of *out, const heads_of *grad, const REAL *logsum, long tokens, const heads_of *of_q) {
  int n = (int)(p->ahead + p->own), m = (int)p->own, ahead = (int)p->ahead, group = w->heads / w->kv_heads;
  REAL share[ROWS * TILE], change[ROWS * TILE];
  for (int head = h * group; head < (h + 1) * group; head++) {
    const REAL *sums = logsum + head * tokens + p->start;
    memset(s->query, 0, (size_t)up(m, ROWS) * wide * sizeof(REAL));
    memset(s->grad, 0, (size_t)up(m, ROWS) * wide * sizeof(REAL));
    memset(s->of_query, 0, (size_t)up(m, ROWS) * wide * sizeof(REAL));
    for (int i = 0; i < m; i++) {
      REAL *here = s->grad + (long)i * wide, *of = s->of_query, total = 0;
      get(q, w->half, p->start + i, head, w->dim, (REAL)w->scale, s->query + (long)i * wide);
      get(grad, w->half, p->start + i, head, w->dim, 1, here);
      get(out, w->half, p->start + i, head, w->dim, 1, of);  // for a moment
      for (int d = 0; d < w->dim; d++) total += here[d] * of[d];
      s->delta[i] = total;
    }
    memset(s->of_query, 0, wide * sizeof(REAL));
    for (int t0 = 0; t0 < n; t0 += TILE) {
      int count = n - t0 < TILE ? n - t0 : TILE, width = up(count, PAIR), i = t0 > ahead ? t0 - ahead : 0;
      for (i -= i % ROWS; i < m; i += ROWS) {
        int rows = m - i < ROWS ? m - i : ROWS;
        if (w->window && first_seen(w, p, i) >= t0 + count) break;
        score(s->query + (long)i * wide, wide, s->columns_k + t0, room, w->dim, 0, width, share, TILE);
        score(s->grad + (long)i * wide, wide, s->columns_v + t0, room, w->dim, 0, width, change, TILE);
        for (int r = 0; r < ROWS; r++) {
          REAL *part = share + r * TILE, *moved = change + r * TILE;
          int first = r < rows ? first_seen(w, p, i + r) - t0 : TILE, last = r < rows ? ahead + i + r - t0 : -1;
          if (first < 0) first = 0;
          if (last < -1) last = -1;
          if (last >= count) last = count - 1;
          lanes sum = spread(r < rows ? sums[i + r] : 0), delta = spread(r < rows ? s->delta[i + r] : 0);
          for (int t = 0; t < width; t += LANES) {
            lanes weight = exponential(load(part + t) - sum);
            store(part + t, weight);
            store(moved + t, weight * (load(moved + t) - delta));
          }
          for (int t = 0; t < width && t < first; t++) part[t] = moved[t] = 0;
          for (int t = last + 1; t < width; t++) part[t] = moved[t] = 0;
        }
        mix(change, TILE, s->rows_k + (long)t0 * wide, wide, 0, count, s->of_query + (long)i * wide);
        scatter(change, TILE, s->query + (long)i * wide, wide, count, s->of_k + (long)t0 * wide);
        scatter(share, TILE, s->grad + (long)i * wide, wide, count, s->of_v + (long)t0 * wide);
      }
    }
    for (int i = 0; i < m; i++) put(of_q, w->half, p->start + i, head, w->dim, (REAL)w->scale, s->of_query + (long)i * wide);
  }
}

int packed_backward(const work *w, heads_of q, heads_of k, heads_of v, heads_of out, heads_of grad, const REAL *logsum,
                    long tokens, heads_of of_q, heads_of of_k, heads_of of_v) {
  int keys, own, wide = up(w->dim, LANES), failed = 0;
  largest(w, &keys, &own);
  int room = up(keys, PAIR) + TILE;
  size_t rows = (size_t)keys * wide, queries = (size_t)up(own, ROWS) * wide, columns = (size_t)room * w->dim;
#pragma omp parallel num_threads(w->threads)
  {
    REAL *all = malloc((2 * columns + 6 * rows + 3 * queries + own) * sizeof(REAL));
    scratch s = {.columns_k = all, .columns_v = all + columns, .rows_k = all + 2 * columns};
    s.rows_v = s.rows_k + rows, s.of_k = s.rows_v + rows, s.of_v = s.of_k + rows, s.root_k = s.of_v + rows;
    s.root_v = s.root_k + rows, s.query = s.root_v + rows, s.grad = s.query + queries;
    s.of_query = s.grad + queries, s.delta = s.of_query + queries;
    if (!all) failed = 1;
#pragma omp for collapse(2) schedule(dynamic)
    for (int f = 0; f < w->count; f++)
      for (int h = 0; h < w->kv_heads; h++) {
        if (!all) continue;
        const piece *root = w->pieces + w->families[f];
        memset(s.root_k, 0, 2 * rows * sizeof(REAL));
        for (int64_t number = w->families[f]; number < w->families[f + 1]; number++) {
          const piece *p = w->pieces + number;
          int n = (int)(p->ahead + p->own);
          gather(&k, w, p, h, wide, s.rows_k);
          gather(&v, w, p, h, wide, s.rows_v);
          transpose(s.rows_k, n, wide, w->dim, room, s.columns_k);
          transpose(s.rows_v, n, wide, w->dim, room, s.columns_v);
          memset(s.of_k, 0, 2 * rows * sizeof(REAL));
          piece_backward(w, p, h, room, wide, &s, &q, &out, &grad, logsum, tokens, &of_q);
          long shared = p == root ? p->own : p->ahead;
          for (long i = 0; i < shared * wide; i++) s.root_k[i] += s.of_k[i], s.root_v[i] += s.of_v[i];
          for (long i = 0; p != root && i < p->own; i++) {
            put(&of_k, w->half, p->start + i, h, w->dim, 1, s.of_k + (p->ahead + i) * wide);
            put(&of_v, w->half, p->start + i, h, w->dim, 1, s.of_v + (p->ahead + i) * wide);
          }
        }
        for (long i = 0; i < root->own; i++) {
          put(&of_k, w->half, root->start + i, h, w->dim, 1, s.root_k + i * wide);
          put(&of_v, w->half, root->start + i, h, w->dim, 1, s.root_v + i * wide);
        }
      }
    free(all);
  }
  return failed;
}
