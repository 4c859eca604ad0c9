// A linear layer in 8-bit integers, for one level of instructions: LEVEL names it, the compiler's flags are it.
//
// A row of activations becomes z ≈ low + step · level, level in 0…255, but for its few largest values: those would
// stretch the step of all others (Dettmers et al. 2022, LLM.int8). They are taken out, and multiplied with the weights
// in bfloat16. Integers are summed exactly, and everything else is computed row by row, so that a row's bits do not
// depend on the rows beside it.

#include "int8.h"

#include <immintrin.h>

#include <cfloat>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kLanes = 16, kVectors = kColumns / kLanes;
constexpr int kRows = 6;  // with kVectors, what the registers hold
// The values taken out of a row are those above the fifth largest of its lanes' largest: four, or a few more.
constexpr int kOutlierLanes = 4, kMaxOutliers = 16;
// Of a block of rows, so that they and a panel of weights stay in the second cache.
constexpr int kBlockBytes = 1 << 17;

struct Row {
    float step, low;
    int outliers;
    int channel[kMaxOutliers];
    float value[kMaxOutliers];
};

template <class T>
constexpr T up(T n, T to) {
    return (n + to - 1) / to * to;
}

inline __mmask16 first(int n) { return n >= kLanes ? 0xffff : (1u << n) - 1; }

inline __m512 from_bfloat16(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

// To nearest, ties to even; NaN stays NaN.
inline __m256i to_bfloat16(__m512 x) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(x);
#else
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    rounded = _mm512_mask_set1_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), 0x7fc00000);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
}

// ---- Activations

inline __m512 load(const LinearArguments& a, int64_t element, __mmask16 mask) {
    if (!a.x_bfloat16) return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(a.x) + element);
    return from_bfloat16(_mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(a.x) + element));
}

// The size above which a value of this row is an outlier, from the largest sizes in each lane.
inline float threshold(__m512 sizes) {
    for (int i = 0; i < kOutlierLanes; i++) {
        __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(sizes));
        sizes = _mm512_mask_mov_ps(sizes, _mm512_cmp_ps_mask(sizes, most, _CMP_EQ_OQ), _mm512_setzero_ps());
    }
    return _mm512_reduce_max_ps(sizes);
}

// Levels of one row of x; `z` is memory for a row.
void quantize(const LinearArguments& a, int64_t number, float* z, uint8_t* levels, Row& row) {
    __m512 sizes = _mm512_setzero_ps(), finite = _mm512_setzero_ps();
    for (int i = 0; i < a.in; i += kLanes) {
        __mmask16 mask = first(a.in - i);
        __m512 v = _mm512_mul_ps(load(a, number * a.x_row + i, mask), _mm512_maskz_loadu_ps(mask, a.spread + i));
        _mm512_store_ps(z + i, v);
        sizes = _mm512_max_ps(sizes, _mm512_abs_ps(v));
        finite = _mm512_fmadd_ps(v, _mm512_setzero_ps(), finite);
    }
    // With more outliers than there is room for, there are none.
    float limit = threshold(sizes);
    __m512 low, high;
    for (;;) {
        __m512 bound = _mm512_set1_ps(limit);
        low = high = _mm512_setzero_ps();
        row.outliers = 0;
        for (int i = 0; i < a.in && row.outliers <= kMaxOutliers; i += kLanes) {
            __m512 v = _mm512_load_ps(z + i);
            __mmask16 out = _mm512_cmp_ps_mask(_mm512_abs_ps(v), bound, _CMP_GT_OQ);
            low = _mm512_mask_min_ps(low, _knot_mask16(out), low, v);
            high = _mm512_mask_max_ps(high, _knot_mask16(out), high, v);
            for (unsigned left = out; left; left &= left - 1) {
                if (row.outliers < kMaxOutliers) row.channel[row.outliers] = i + __builtin_ctz(left);
                row.outliers++;
            }
        }
        if (row.outliers <= kMaxOutliers) break;
        limit = FLT_MAX;
    }
    for (int i = 0; i < row.outliers; i++) {
        row.value[i] = z[row.channel[i]];
        z[row.channel[i]] = 0;
    }
    row.low = _mm512_reduce_min_ps(low);
    // A row of zeros has no range; its step must not be zero all the same.
    float range = _mm512_reduce_max_ps(high) - row.low;
    row.step = range > FLT_MIN * 255 ? range / 255 : FLT_MIN;
    __m512 inverse = _mm512_set1_ps(1 / row.step), offset = _mm512_set1_ps(-row.low / row.step);
    for (int i = 0; i < a.in; i += kLanes) {
        __m512i level = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_load_ps(z + i), inverse, offset));
        _mm_store_si128(reinterpret_cast<__m128i*>(levels + i), _mm512_cvtusepi32_epi8(level));
    }
    row.step += _mm512_reduce_add_ps(finite);  // 0, or NaN where a value is not finite
}

// ---- Results

// 2^x. The polynomial is the minimax of the relative error over [-1/2, 1/2], 7.5e-5.
inline __m512 exp2(__m512 x) {
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0.0551716685f), f, _mm512_set1_ps(0.242611125f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.693260968f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(y, f, _mm512_set1_ps(0.999928057f)), whole);
}

inline __m512 activate(const LinearArguments& a, __m512 y) {
    __m512 square = _mm512_min_ps(_mm512_mul_ps(y, y), _mm512_set1_ps(a.limit));
    __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(a.slope[2]), square, _mm512_set1_ps(a.slope[1]));
    slope = _mm512_fmadd_ps(slope, square, _mm512_set1_ps(a.slope[0]));
    __m512 power = exp2(_mm512_mul_ps(slope, y));
    return _mm512_mul_ps(y, _mm512_rcp14_ps(_mm512_add_ps(power, _mm512_set1_ps(1.0f))));  // 6e-5
}

inline void store(const LinearArguments& a, int64_t element, __m512 y, __mmask16 mask) {
    if (a.y_bfloat16)
        _mm256_mask_storeu_epi16(static_cast<uint16_t*>(a.y) + element, mask, to_bfloat16(y));
    else
        _mm512_mask_storeu_ps(static_cast<float*>(a.y) + element, mask, y);
}

// From sums of integers to a row's part of the result.
inline void finish(const LinearArguments& a, const Row& row, int64_t number, int panel, const int32_t* sums) {
    int column = panel * kColumns;
    __m512 y[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) {
        __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + j * kLanes)), _mm512_set1_ps(row.step));
        y[j] = _mm512_fmadd_ps(_mm512_loadu_ps(a.sums + column + j * kLanes), _mm512_set1_ps(row.low), product);
        y[j] = _mm512_fmadd_ps(y[j], _mm512_loadu_ps(a.step + column + j * kLanes),
                               _mm512_loadu_ps(a.bias + column + j * kLanes));
    }
    const uint16_t* weights = a.weights + int64_t(column) * a.in;
    for (int i = 0; i < row.outliers; i++) {
        const uint16_t* of = weights + int64_t(row.channel[i]) * kColumns;
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; j += 2) {
            // Two columns of weights as they lie in memory, the second one 16 columns behind the first.
            __m512i pairs = _mm512_loadu_si512(of + j * kLanes);
            __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
            __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff0000)));
            y[j] = _mm512_fmadd_ps(_mm512_set1_ps(row.value[i]), even, y[j]);
            y[j + 1] = _mm512_fmadd_ps(_mm512_set1_ps(row.value[i]), odd, y[j + 1]);
        }
    }
    int vectors = kVectors;
    if (a.activated) {
        int activated = a.gated ? kVectors / 2 : kVectors;
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; j++)
            if (j < activated) y[j] = activate(a, y[j]);
    }
    if (a.gated) {
        vectors = kVectors / 2;
        column /= 2;
#pragma GCC unroll 2
        for (int j = 0; j < kVectors / 2; j++) y[j] = _mm512_mul_ps(y[j], y[j + kVectors / 2]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; j++) {
        int left = a.out - column - j * kLanes;
        if (j < vectors && left > 0) store(a, number * a.y_row + column + j * kLanes, y[j], first(left));
    }
}

// R rows, the first of which is `number`, times one panel.
template <int R>
void product(const LinearArguments& a, const Row* rows, const uint8_t* levels, int stride, int64_t number, int panel) {
    __m512i sums[R][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; j++) sums[r][j] = _mm512_setzero_si512();
    int steps = up(a.in, 4) / 4;
    const int8_t* weights = a.levels + int64_t(panel) * steps * kColumns * 4;
    for (int step = 0; step < steps; step++) {
        __m512i columns[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; j++) columns[j] = _mm512_load_si512(weights + (step * kVectors + j) * 64);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            int four;
            memcpy(&four, levels + int64_t(r) * stride + step * 4, 4);
#pragma GCC unroll 4
            for (int j = 0; j < kVectors; j++)
                sums[r][j] = _mm512_dpbusd_epi32(sums[r][j], _mm512_set1_epi32(four), columns[j]);
        }
    }
    alignas(64) int32_t tile[R * kColumns];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; j++) _mm512_store_si512(tile + r * kColumns + j * kLanes, sums[r][j]);
    for (int r = 0; r < R; r++) finish(a, rows[r], number + r, panel, tile + r * kColumns);
}

template <int R = kRows>
void product(int count, const LinearArguments& a, const Row* rows, const uint8_t* levels, int stride, int64_t number,
             int panel) {
    if (count == R)
        product<R>(a, rows, levels, stride, number, panel);
    else if constexpr (R > 1)
        product<R - 1>(count, a, rows, levels, stride, number, panel);
}

}  // namespace

#define NAME(level) NAME_(level)
#define NAME_(level) int8_linear_##level

int NAME(LEVEL)(const LinearArguments& a) {
    int stride = up(a.in, 64) + 64;  // not a power of two
    int block = kBlockBytes / stride / kRows * kRows;
    block = block < 2 * kRows ? 2 * kRows : block;
    block = block > a.rows ? up(a.rows, kRows) : block;
    size_t row_bytes = up(sizeof(Row) * block, size_t(64)), z_bytes = sizeof(float) * stride;
    char* memory = static_cast<char*>(aligned_alloc(64, row_bytes + z_bytes + size_t(block) * stride));
    if (memory == nullptr) return 1;
    Row* rows = reinterpret_cast<Row*>(memory);
    float* z = reinterpret_cast<float*>(memory + row_bytes);
    uint8_t* levels = reinterpret_cast<uint8_t*>(memory + row_bytes + z_bytes);
    for (int begin = 0; begin < a.rows; begin += block) {
        int count = a.rows - begin < block ? a.rows - begin : block;
        for (int r = 0; r < count; r++) quantize(a, begin + r, z, levels + int64_t(r) * stride, rows[r]);
        int tiles = up(count, kRows) / kRows;
        for (int panel = 0; panel < a.panels; panel++) {
            // Tiles of nearly the same size: a small last one would not fill the registers.
            for (int t = 0, done = 0; t < tiles; t++) {
                int size = (count - done) / (tiles - t);
                product(size, a, rows + done, levels + int64_t(done) * stride, stride, begin + done, panel);
                done += size;
            }
        }
    }
    free(memory);
    return 0;
}
