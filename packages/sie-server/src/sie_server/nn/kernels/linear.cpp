// A linear layer in bfloat16 or int8 for one instruction set, named by LEVEL and enabled by the compiler's flags.
// The tiles here are those of AVX-512; those of AMX are in linear_amx.h.
//
// A block of rows is converted to cells once. Then, panel by panel of the weights, tiles of a few rows are multiplied
// in registers; bias, activation and residual are applied before a tile leaves them. Each result is summed over the
// inputs in ascending order, in one chain, independently of other rows, so its bits do not depend on the batch.

#include "linear.h"

#ifdef __AMX_BF16__
#include "linear_amx.h"
#else

#include <cstring>

#include "linear_epilogue.h"

namespace {

constexpr int kRows = 12;  // kRows · kVectors sums fill the registers

// Multiply R rows, the first of which is `number`, with one panel.
template <class N, int R>
void product(const LinearArguments& a, const typename N::Row* rows, const char* cells, int stride, int64_t number,
             int panel) {
    N::prefetch_outliers(a, rows, R, panel * kColumns);
    typename N::Sum sums[R][kVectors];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; j++) sums[r][j] = N::zero();
    int steps = up(a.in, N::kPerCell) / N::kPerCell;
    const char* weights = static_cast<const char*>(N::weights(a)) + int64_t(panel) * steps * kColumns * 4;
    for (int step = 0; step < steps; step++) {
        __m512i columns[kVectors];
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; j++) columns[j] = _mm512_load_si512(weights + (step * kVectors + j) * 64);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            int cell;
            memcpy(&cell, cells + int64_t(r) * stride + step * 4, 4);
#pragma GCC unroll 2
            for (int j = 0; j < kVectors; j++)
                sums[r][j] = N::multiply_add(sums[r][j], _mm512_set1_epi32(cell), columns[j]);
        }
    }
    typename N::Sum tile[R * kVectors];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; j++) tile[r * kVectors + j] = sums[r][j];
    finish<N>(a, rows, number, R, panel, tile);
}

template <class N, int R = kRows>
void product(int count, const LinearArguments& a, const typename N::Row* rows, const char* cells, int stride,
             int64_t number, int panel) {
    if (count == R)
        product<N, R>(a, rows, cells, stride, number, panel);
    else if constexpr (R > 1)
        product<N, R - 1>(count, a, rows, cells, stride, number, panel);
}

template <class N>
int linear(const LinearArguments& a, int64_t l2_bytes) {
    int stride = up(up(a.in, kLanes) * 4 / N::kPerCell, 64) + 64;  // in bytes, not a power of two
    // A block of rows and a panel of weights fit into the L2 cache.
    int block = int(l2_bytes / 4 / stride) / kRows * kRows;
    block = block < 2 * kRows ? 2 * kRows : block;
    block = block > a.rows ? up(a.rows, kRows) : block;
    RowBlock<N> rows(block, a.in, size_t(block) * stride);
    if (rows.cells == nullptr) return 1;
    for (int begin = 0; begin < a.rows; begin += block) {
        int count = a.rows - begin < block ? a.rows - begin : block;
        rows.clear();
        for (int r = 0; r < count; r++) rows.read(a, begin + r, r, rows.cells + int64_t(r) * stride);
        int tiles = up(count, kRows) / kRows;
        for (int panel = 0; panel < a.panels; panel++) {
            // Tiles of nearly equal size: a small last one would leave registers unused.
            for (int t = 0, done = 0; t < tiles; t++) {
                int size = (count - done) / (tiles - t);
                product<N>(size, a, rows.rows + done, rows.cells + int64_t(done) * stride, stride, begin + done, panel);
                done += size;
            }
        }
    }
    return 0;
}

}  // namespace

#endif

#define NAME(level) NAME_(level)
#define NAME_(level) linear_##level

int NAME(LEVEL)(const LinearArguments& a, int64_t l2_bytes) {
#ifdef __AMX_BF16__
    if (a.dtype == kBfloat16) return multiply_panels<Bfloat16>(a, l2_bytes);
    return multiply_panels<Int8>(a, l2_bytes);
#else
#ifdef __AVX512BF16__
    if (a.dtype == kBfloat16) return linear<Bfloat16>(a, l2_bytes);
#endif
    return linear<Int8>(a, l2_bytes);
#endif
}
