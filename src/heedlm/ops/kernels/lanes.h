// Vectors of numbers of type REAL, float (then SINGLE is defined) or double. They are those of GCC and Clang, which lower
// them to whatever the processor has.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BYTES = 64, LANES = BYTES / sizeof(REAL) };

typedef REAL lanes __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL few_lanes __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));
typedef int32_t bits __attribute__((vector_size(BYTES), may_alias));

static inline lanes load(const REAL *from) { return *(const lanes *)from; }
static inline void store(REAL *to, lanes x) { *(lanes *)to = x; }
static inline lanes spread(REAL x) { return x - (lanes){0}; }

static inline lanes larger(lanes a, lanes b) {
  bits where = (bits)(a > b);
  return (lanes)((where & (bits)a) | (~where & (bits)b));
}

#ifdef SINGLE
typedef uint16_t halves __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));
typedef uint32_t wholes __attribute__((vector_size(BYTES), may_alias));

// bfloat16 is the upper half of a float.
static inline lanes load_half(const uint16_t *from) {
  return (lanes)(__builtin_convertvector(*(const halves *)from, wholes) << 16);
}

static inline void store_half(uint16_t *to, lanes x) {
  wholes given = (wholes)x, rounded = (given + 0x7fff + (given >> 16 & 1)) >> 16;
  wholes broken = (wholes)(x != x);  // NaN, which rounding might make infinite
  *(halves *)to = __builtin_convertvector((broken & 0x7fc0) | (~broken & rounded), halves);
}
#endif

static inline REAL largest_of(lanes x) {
  REAL found = x[0];
  for (int i = 1; i < LANES; i++) found = x[i] > found ? x[i] : found;
  return found;
}

static inline REAL sum_of(lanes x) {
  REAL total = 0;
  for (int i = 0; i < LANES; i++) total += x[i];
  return total;
}

// e to the power of numbers that are not positive.
static inline lanes exponential(lanes x) {
#ifdef SINGLE
  // 2 to a whole power times a polynomial for the rest, |rest| <= ln 2 / 2 (coefficients of Cephes' expf).
  bits none = (bits)(x < -87.0f);
  x = larger(spread(-87.0f), x);  // in this order NaN stays NaN
  lanes whole = x * 1.44269504f + 12582912.0f;  // rounds to the nearest: 1.5 * 2^23 leaves no bits for a fraction
  bits power = (bits)whole << 23;
  whole -= 12582912.0f;
  lanes rest = x - whole * 0.693359375f + whole * 2.12194440e-4f, found = spread(1.9875691500e-4f);
  found = found * rest + 1.3981999507e-3f;
  found = found * rest + 8.3334519073e-3f;
  found = found * rest + 4.1665795894e-2f;
  found = found * rest + 1.6666665459e-1f;
  found = found * rest + 5.0000001201e-1f;
  found = found * rest * rest + rest + 1.0f;
  return (lanes)(((bits)found + power) & ~none);
#else
  for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
  return x;
#endif
}

// From scores to shares that are not divided by their sum yet; returns the sum. Columns outside first..last get none.
static inline REAL weigh(REAL *scores, int first, int last, REAL *most) {
  int from = first - first % LANES, to = (last + LANES) / LANES * LANES;
  for (int t = from; t < first; t++) scores[t] = -INFINITY;
  for (int t = last + 1; t < to; t++) scores[t] = -INFINITY;
  lanes high = spread(-INFINITY), total = {0};
  for (int t = from; t < to; t += LANES) high = larger(load(scores + t), high);
  *most = largest_of(high);
  lanes peak = spread(*most);
  for (int t = from; t < to; t += LANES) {
    lanes share = exponential(load(scores + t) - peak);
    store(scores + t, share);
    total += share;
  }
  return sum_of(total);
}
