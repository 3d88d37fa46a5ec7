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
