// A linear layer in int8 for processors without AVX-512, by AVX-VNNI. Rows are quantized, and sums turned into results,
// as in linear_dtypes.h, with the same bits; only activations are a little more exact.

#include <immintrin.h>

#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "linear.h"

namespace {

constexpr int kLanes = 8, kVectors = kColumns / kLanes;
constexpr int kRows = 3;  // kRows · kVectors sums, as many cells and a vector of weights fill the registers
// A row's outliers are values above the third largest of the maxima of 16 interleaved parts, where that is not near the
// largest.
constexpr int kParts = 16, kOutlierParts = 2, kMaxOutliers = 16;
constexpr float kNearLargest = 0.7f;

template <class T>
constexpr T up(T n, T to) {
    return (n + to - 1) / to * to;
}

struct Row {
    float step, low;
    int outliers;
    int channel[kMaxOutliers];
    float value[kMaxOutliers];
};

// sum + products of four unsigned and signed bytes in each lane.
inline __m256i multiply_add(__m256i sum, __m256i cells, __m256i weights) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(sum, cells, weights);
#else  // a compiler that does not know it
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(cells, _mm256_set1_epi16(0xff)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(cells, 8), _mm256_srai_epi16(weights, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
#endif
}

inline __m256 absolute(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

// Load up to eight values from index `element` on; zeros beyond the first `n`.
inline __m256 load(const void* from, bool bfloat16, int64_t element, int n) {
    alignas(32) uint16_t halves[kLanes] = {};
    alignas(32) float values[kLanes] = {};
    const void* at = static_cast<const char*>(from) + element * (bfloat16 ? 2 : 4);
    if (n < kLanes) at = memcpy(bfloat16 ? static_cast<void*>(halves) : values, at, n * (bfloat16 ? 2 : 4));
    if (!bfloat16) return _mm256_loadu_ps(static_cast<const float*>(at));
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(at)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}

// Store the first `n` values. Rounds to nearest, ties to even; NaN stays NaN.
inline void store(void* to, bool bfloat16, int64_t element, __m256 y, int n) {
    n = n < kLanes ? n : kLanes;
    if (!bfloat16) {
        float* at = static_cast<float*>(to) + element;
        n == kLanes ? _mm256_storeu_ps(at, y) : void(memcpy(at, &y, n * sizeof(float)));
        return;
    }
    __m256i bits = _mm256_castps_si256(y), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(y, y, _CMP_UNORD_Q));
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan), 16);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0x08);
    memcpy(static_cast<uint16_t*>(to) + element, &packed, n * sizeof(uint16_t));
}

// Quantize a row into `cells`. `z` is scratch memory for one row.
void read(const LinearArguments& a, int64_t number, float* z, uint8_t* cells, Row& row) {
    int size = up(a.in, kParts);
    alignas(32) float parts[kParts] = {};
    __m256 finite = _mm256_setzero_ps();
    for (int i = 0; i < size; i += kLanes) {
        int n = a.in - i < 0 ? 0 : a.in - i;
        __m256 v = _mm256_mul_ps(load(a.x, a.x_bfloat16, number * a.x_row + i, n), load(a.input_scale, false, i, n));
        _mm256_store_ps(z + i, v);
        _mm256_store_ps(parts + i % kParts, _mm256_max_ps(_mm256_load_ps(parts + i % kParts), absolute(v)));
        finite = _mm256_fmadd_ps(v, _mm256_setzero_ps(), finite);
    }
    float limit = 0, largest = 0;
    int near = 0;
    for (int turn = 0; turn <= kOutlierParts; turn++) {
        limit = 0;
        for (float part : parts) limit = part > limit ? part : limit;
        if (turn == 0) largest = limit;
        for (float& part : parts) {
            near += turn == 0 && part > largest * kNearLargest;
            part = turn < kOutlierParts && part == limit ? 0 : part;
        }
    }
    if (near > kOutlierParts) limit = INFINITY;
    // With more than kMaxOutliers, no value is treated as an outlier.
    __m256 low, high;
    for (;; limit = INFINITY) {
        __m256 bound = _mm256_set1_ps(limit);
        low = high = _mm256_setzero_ps();
        row.outliers = 0;
        for (int i = 0; i < size && row.outliers <= kMaxOutliers; i += kLanes) {
            __m256 v = _mm256_load_ps(z + i), out = _mm256_cmp_ps(absolute(v), bound, _CMP_GT_OQ);
            low = _mm256_blendv_ps(_mm256_min_ps(low, v), low, out);
            high = _mm256_blendv_ps(_mm256_max_ps(high, v), high, out);
            for (unsigned left = _mm256_movemask_ps(out); left; left &= left - 1) {
                if (row.outliers < kMaxOutliers) row.channel[row.outliers] = i + __builtin_ctz(left);
                row.outliers++;
            }
        }
        if (row.outliers <= kMaxOutliers) break;
    }
    for (int i = 0; i < row.outliers; i++) {
        row.value[i] = z[row.channel[i]];
        z[row.channel[i]] = 0;
    }
    alignas(32) float lows[kLanes], highs[kLanes], sums[kLanes];
    _mm256_store_ps(lows, low);
    _mm256_store_ps(highs, high);
    _mm256_store_ps(sums, finite);
    row.low = 0;
    float top = 0, finite_sum = 0;
    for (int i = 0; i < kLanes; i++) {
        row.low = lows[i] < row.low ? lows[i] : row.low;
        top = highs[i] > top ? highs[i] : top;
        finite_sum += sums[i];
    }
    // The step must not be zero, even for a row of zeros.
    float range = top - row.low;
    row.step = range > FLT_MIN * 255 ? range / 255 : FLT_MIN;
    __m256 inverse = _mm256_set1_ps(1 / row.step), offset = _mm256_set1_ps(-row.low / row.step);
    for (int i = 0; i < size; i += kLanes) {
        __m256i level = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_load_ps(z + i), inverse, offset));
        level = _mm256_packus_epi32(level, level);
        level = _mm256_packus_epi16(level, level);
        int first = _mm256_extract_epi32(level, 0), second = _mm256_extract_epi32(level, 4);
        memcpy(cells + i, &first, 4);
        memcpy(cells + i + 4, &second, 4);
    }
    row.step += finite_sum;  // adds 0, or NaN if a value is not finite
}

// 2^x by the polynomial with minimax relative error on [-1/2, 1/2], which is 7.5e-5.
inline __m256 exp2(__m256 x) {
    x = _mm256_min_ps(_mm256_set1_ps(127), _mm256_max_ps(_mm256_set1_ps(-126), x));  // NaN stays NaN
    __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm256_sub_ps(x, whole);
    __m256 y = _mm256_fmadd_ps(_mm256_set1_ps(0.0551716685f), f, _mm256_set1_ps(0.242611125f));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.693260968f));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.999928057f));
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(y, _mm256_castsi256_ps(exponent));
}

inline __m256 activate(const LinearArguments& a, __m256 y) {
    __m256 square = _mm256_min_ps(_mm256_mul_ps(y, y), _mm256_set1_ps(a.limit));
    __m256 slope = _mm256_fmadd_ps(_mm256_set1_ps(a.slope[2]), square, _mm256_set1_ps(a.slope[1]));
    slope = _mm256_fmadd_ps(slope, square, _mm256_set1_ps(a.slope[0]));
    return _mm256_div_ps(y, _mm256_add_ps(exp2(_mm256_mul_ps(slope, y)), _mm256_set1_ps(1)));
}

// Turn a row's sums of products with a panel into its part of y. Never inlined: the compiler might fuse different
// operations in each copy.
__attribute__((noinline)) void finish(const LinearArguments& a, const Row& row, int64_t number, int panel,
                                      const __m256i* sums) {
    int column = panel * kColumns;
    __m256 y[kVectors];
    for (int j = 0; j < kVectors; j++) {
        int at = column + j * kLanes;
        __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[j]), _mm256_set1_ps(row.step));
        y[j] = _mm256_fmadd_ps(_mm256_loadu_ps(a.weight_sums + at), _mm256_set1_ps(row.low), product);
        y[j] = _mm256_fmadd_ps(y[j], _mm256_loadu_ps(a.weight_scale + at), _mm256_loadu_ps(a.bias + at));
    }
    const uint16_t* weights = static_cast<const uint16_t*>(a.weights) + int64_t(column) * a.in;
    for (int i = 0; i < row.outliers; i++)
        for (int half = 0; half < 2; half++) {
            // Pairs of columns that are 16 apart.
            const uint16_t* at = weights + int64_t(row.channel[i]) * kColumns + half * 2 * kLanes;
            __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
            __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)), value = _mm256_set1_ps(row.value[i]);
            __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff0000)));
            y[half] = _mm256_fmadd_ps(value, even, y[half]);
            y[half + 2] = _mm256_fmadd_ps(value, odd, y[half + 2]);
        }
    int vectors = a.gated ? kVectors / 2 : kVectors;
    for (int j = 0; a.activation && j < vectors; j++) y[j] = activate(a, y[j]);
    if (a.gated) {
        column /= 2;
        for (int j = 0; j < vectors; j++) y[j] = _mm256_mul_ps(y[j], y[j + vectors]);
    }
    for (int j = 0; j < vectors && column < a.out; j++, column += kLanes) {
        if (a.residual)
            y[j] = _mm256_add_ps(y[j], load(a.residual, false, number * a.residual_row + column, a.out - column));
        store(a.y, a.y_bfloat16, number * a.y_row + column, y[j], a.out - column);
    }
}

// Multiply R rows, the first of which is `number`, with one panel.
template <int R>
void product(const LinearArguments& a, const Row* rows, const uint8_t* cells, int stride, int64_t number, int panel) {
    __m256i sums[R][kVectors];
#pragma GCC unroll 3
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; j++) sums[r][j] = _mm256_setzero_si256();
    int steps = up(a.in, 4) / 4;
    const int8_t* weights = a.int8_weights + int64_t(panel) * steps * kColumns * 4;
    for (int step = 0; step < steps; step++) {
        __m256i cell[R];
#pragma GCC unroll 3
        for (int r = 0; r < R; r++) {
            int value;
            memcpy(&value, cells + int64_t(r) * stride + step * 4, 4);
            cell[r] = _mm256_set1_epi32(value);
        }
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; j++) {
            const int8_t* at = weights + (step * kVectors + j) * sizeof(__m256i);
            __m256i columns = _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
#pragma GCC unroll 3
            for (int r = 0; r < R; r++) sums[r][j] = multiply_add(sums[r][j], cell[r], columns);
        }
    }
    for (int r = 0; r < R; r++) finish(a, rows[r], number + r, panel, sums[r]);
}

template <int R = kRows>
void product(int count, const LinearArguments& a, const Row* rows, const uint8_t* cells, int stride, int64_t number,
             int panel) {
    if (count == R)
        product<R>(a, rows, cells, stride, number, panel);
    else if constexpr (R > 1)
        product<R - 1>(count, a, rows, cells, stride, number, panel);
}

}  // namespace

#define NAME(level) NAME_(level)
#define NAME_(level) linear_##level

int NAME(LEVEL)(const LinearArguments& a, int64_t l2_bytes) {
    int size = up(a.in, kParts), stride = up(size, 64) + 64;  // in bytes, not a power of two
    // A block of rows and a panel of weights fit into the L2 cache.
    int block = int(l2_bytes / 4 / stride) / kRows * kRows;
    block = block < 2 * kRows ? 2 * kRows : block;
    block = block > a.rows ? a.rows : block;
    size_t row_bytes = up(sizeof(Row) * block, size_t(64)), cell_bytes = size_t(block) * stride;
    char* memory = static_cast<char*>(aligned_alloc(64, row_bytes + cell_bytes + up(sizeof(float) * size, size_t(64))));
    if (memory == nullptr) return 1;
    Row* rows = reinterpret_cast<Row*>(memory);
    uint8_t* cells = reinterpret_cast<uint8_t*>(memory + row_bytes);
    float* z = reinterpret_cast<float*>(cells + cell_bytes);
    for (int begin = 0; begin < a.rows; begin += block) {
        int count = a.rows - begin < block ? a.rows - begin : block;
        for (int r = 0; r < count; r++) read(a, begin + r, z, cells + int64_t(r) * stride, rows[r]);
        for (int panel = 0; panel < a.panels; panel++)
            for (int r = 0; r < count; r += kRows) {
                int left = count - r < kRows ? count - r : kRows;
                product(left, a, rows + r, cells + int64_t(r) * stride, stride, begin + r, panel);
            }
    }
    free(memory);
    return 0;
}
