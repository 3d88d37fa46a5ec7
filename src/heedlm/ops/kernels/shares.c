// From logits to log-probabilities; `__init__.py` says what the arguments mean.
#include "lanes.h"

// The numbers of a row that are left over from whole vectors, filled up with what has no share.
static lanes rest_of(const REAL *from, long count) {
  lanes x = spread(-INFINITY);
  for (long i = 0; i < count; i++) x[i] = from[i];
  return x;
}

void share(REAL *x, long rows, long size, const int64_t *targets, double by, int keep, REAL *logps, REAL *entropies,
           int threads) {
  long even = size - size % LANES;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++) {
    REAL *here = x + row * size, chosen = here[targets[row]];
    lanes high = rest_of(here + even, size - even), total = {0}, mean = {0}, last = high;
    for (long i = 0; i < even; i += LANES) high = larger(load(here + i), high);
    lanes peak = spread(largest_of(high));
    for (long i = 0; i < size; i += LANES) {
      lanes power = ((i < even ? load(here + i) : last) - peak) * (REAL)by, weight = exponential(power);
      total += weight;
      mean += weight * larger(spread(-1e30), power);
      if (keep && i < even) store(here + i, weight);
      if (keep && i >= even)
        for (long j = i; j < size; j++) here[j] = weight[j - i];
    }
    REAL sum = sum_of(total), each = 1 / sum;
    logps[row] = (chosen - peak[0]) * (REAL)by - (REAL)log(sum);
    entropies[row] = (REAL)log(sum) - sum_of(mean) * each;
    for (long i = 0; keep && i < size; i++) here[i] *= each;
  }
}

// The shares of the numbers i.. of a row, not divided by their sum yet.
static inline lanes shares_at(const REAL *x, long i, long size, lanes peak, REAL by) {
  return exponential(((i + LANES <= size ? load(x + i) : rest_of(x + i, size - i)) - peak) * by);
}

void draw(const REAL *x, long rows, long size, const double *uniform, double by, int64_t *tokens, REAL *logps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++) {
    const REAL *here = x + row * size;
    lanes high = spread(-INFINITY);
    for (long i = 0; i < size; i += LANES)
      high = larger(i + LANES <= size ? load(here + i) : rest_of(here + i, size - i), high);
    lanes peak = spread(largest_of(high));
    double total = 0, sum = 0;
    for (long i = 0; i < size; i += LANES) total += sum_of(shares_at(here, i, size, peak, (REAL)by));
    // The same sums in the same order again, up to the vector within which the point lies.
    double below = nextafter(total, 0), point = uniform[row] * total < below ? uniform[row] * total : below;
    long i = 0, token = -1;
    for (; i < size; i += LANES) {
      double more = sum_of(shares_at(here, i, size, peak, (REAL)by));
      if (sum + more > point || i + LANES >= size) break;
      sum += more;
    }
    // Back where rounding puts the point behind the last share.
    for (; token < 0 && i >= 0; i -= LANES) {
      lanes shares = shares_at(here, i, size, peak, (REAL)by);
      for (long j = i; j < size && j < i + LANES; j++) {
        if (!(shares[j - i] > 0)) continue;
        token = j;
        sum += shares[j - i];
        if (sum > point) break;
      }
    }
    tokens[row] = token < 0 ? 0 : token;
    logps[row] = (here[tokens[row]] - peak[0]) * (REAL)by - (REAL)log(total);
  }
}
