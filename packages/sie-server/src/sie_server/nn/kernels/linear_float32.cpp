// A linear layer in float32 for one instruction set, named by LEVEL and enabled by the compiler's flags.
//
// A block of rows is copied once. Then, panel by panel of the weights and kChain inputs at a time, tiles of a few rows
// are multiplied in registers; bias, activation and residual are applied while a tile is in the L1 cache. A result is
// the sum, in ascending order, of one chain of multiply-adds per kChain inputs, independently of the number of rows and
// of a row's index, so its bits do not depend on the batch.
//
// No templates of the standard library: the linker would keep a single copy of each, compiled for any instruction set.

#include <cstdlib>
#include <cstring>

#include "linear.h"
#include "vectors.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 12;  // both have 32 registers
#else
constexpr int kRows = 6;
#endif
typedef int32_t Bits __attribute__((vector_size(4 * kLanes)));

constexpr int kVectors = 2;
constexpr int kPanel = kVectors * kLanes;  // columns computed together; kRows · kVectors sums fill the registers
constexpr int kLine = 16, kLines = (kPanel + kLine - 1) / kLine;  // floats of a cache line, lines per input of a panel
// Inputs of a chain: that part of a panel and of a tile's rows fits into the L1 cache, and several short chains have a
// smaller rounding error than a long one.
constexpr int kChain = 256;
constexpr int kMinBlockRows = 8 * kRows;  // as each block reads all weights

template <class T>
constexpr T up(T n, T to) {
    return (n + to - 1) / to * to;
}

inline Vec clamp(Vec x, float low, float high) {  // NaN stays NaN
    x = x < low ? Vec{} + low : x;
    return x > high ? Vec{} + high : x;
}

// 2^x, accurate to a few units in the last place: Taylor series of 2^f for |f| <= 1/2.
inline Vec exp2(Vec x) {
    x = clamp(x, -126.0f, 127.0f);
    Vec shifted = x + 0x1.8p23f;  // its lowest bits are the nearest integer
    Vec f = x - (shifted - 0x1.8p23f);
    Vec y = 1.52527338e-5f * f + 1.54035304e-4f;
    y = y * f + 1.33335581e-3f;
    y = y * f + 9.61812911e-3f;
    y = y * f + 5.55041087e-2f;
    y = y * f + 2.40226507e-1f;
    y = y * f + 6.93147181e-1f;
    y = y * f + 1.0f;
    return y * (Vec)(((Bits)shifted + 127) << 23);
}

// Eigen's rational approximation, accurate to a few units in the last place; ±1 beyond ±4.
inline Vec erf(Vec x) {
    x = clamp(x, -4.0f, 4.0f);
    Vec square = x * x;
    Vec p = -2.72614225801306e-10f * square + 2.77068142495902e-08f;
    p = p * square + -2.10102402082508e-06f;
    p = p * square + -5.69250639462346e-05f;
    p = p * square + -7.34990630326855e-04f;
    p = p * square + -2.95459980854025e-03f;
    p = p * square + -1.60960333262415e-02f;
    Vec q = -1.45660718464996e-05f * square + -2.13374055278905e-04f;
    q = q * square + -1.68282697438203e-03f;
    q = q * square + -7.37332916720468e-03f;
    q = q * square + -1.42647390514189e-02f;
    return x * p / q;
}

inline Vec activate(const LinearArguments& a, Vec y) {
    if (a.activation == kErf) {
        Vec half = 0.5f * y;
        return half * erf(y * 0.70710678f) + half;
    }
    Vec square = y * y, limit = Vec{} + a.limit;
    square = square > limit ? limit : square;
    return y / (1.0f + exp2(((a.slope[2] * square + a.slope[1]) * square + a.slope[0]) * y));
}

// Turn a row's sums of products with a panel into its part of y. Never inlined: the compiler might fuse different
// operations in each copy.
__attribute__((noinline)) void finish(const LinearArguments& a, int64_t number, int panel, const float* sums) {
    alignas(64) float out[kPanel];
    int column = panel * kPanel, width = kPanel;
    Vec y[kVectors];
    for (int j = 0; j < kVectors; j++) {
        y[j] = load(sums + j * kLanes);
        if (a.bias) y[j] += load(a.bias + column + j * kLanes);
    }
    if (a.activation) {
        y[0] = activate(a, y[0]);
        if (!a.gated) y[1] = activate(a, y[1]);
    }
    if (a.gated) {
        y[0] *= y[1];
        column /= 2, width /= 2;
    }
    float* to = static_cast<float*>(a.y) + number * a.y_row + column;
    const float* residual = a.residual ? a.residual + number * a.residual_row + column : nullptr;
    if (a.out - column >= width) {
        for (int j = 0; j < width / kLanes; j++)
            store(to + j * kLanes, residual ? y[j] + load(residual + j * kLanes) : y[j]);
        return;
    }
    for (int j = 0; j < kVectors; j++) store(out + j * kLanes, y[j]);
    for (int i = 0; i < a.out - column; i++) to[i] = residual ? out[i] + residual[i] : out[i];
}

// Multiply `count` inputs of R rows with one panel, and store (`first`) or add the results to `sums`. `next`: weights
// to prefetch, one cache line per input.
template <int R>
void product(const float* rows, int64_t stride, const float* weights, int count, bool first, float* sums,
             const float* next) {
    const float* group[(R + 2) / 3];  // one pointer per three rows saves registers
    for (int g = 0; g < (R + 2) / 3; g++) group[g] = rows + 3 * g * stride;
    Vec chains[R][kVectors] = {};
    for (; count > 0; count--) {
        Vec columns[kVectors];
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; j++) columns[j] = load(weights + j * kLanes);
        weights += kPanel;
        __builtin_prefetch(next, 0, 2);
        next += kLine;
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            float x = group[r / 3][r % 3 * stride];
#pragma GCC unroll 2
            for (int j = 0; j < kVectors; j++) chains[r][j] += x * columns[j];
        }
#pragma GCC unroll 4
        for (int g = 0; g < (R + 2) / 3; g++) group[g]++;
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; j++) {
            float* sum = sums + r * kPanel + j * kLanes;
            store(sum, first ? chains[r][j] : load(sum) + chains[r][j]);
        }
}

template <int R = kRows>
void product(int size, const float* rows, int64_t stride, const float* weights, int count, bool first, float* sums,
             const float* next) {
    if (size == R)
        product<R>(rows, stride, weights, count, first, sums, next);
    else if constexpr (R > 1)
        product<R - 1>(size, rows, stride, weights, count, first, sums, next);
}

void read(const LinearArguments& a, int64_t number, float* to) {
    if (!a.x_bfloat16) {
        memcpy(to, static_cast<const float*>(a.x) + number * a.x_row, sizeof(float) * a.in);
        return;
    }
    const uint16_t* from = static_cast<const uint16_t*>(a.x) + number * a.x_row;
    for (int i = 0; i < a.in; i++) {
        uint32_t bits = uint32_t(from[i]) << 16;
        memcpy(to + i, &bits, 4);
    }
}

int linear(const LinearArguments& a, int64_t l2_bytes) {
    int stride = up(a.in, 16) + 16;  // in elements, not a power of two
    int max_block = int(l2_bytes / 2 / (stride * int64_t(sizeof(float))));
    max_block = max_block < kMinBlockRows ? kMinBlockRows : max_block;
    int blocks = (a.rows + max_block - 1) / max_block;
    if (blocks == 0) return 0;
    int block = (a.rows + blocks - 1) / blocks;
    size_t sums_size = size_t(block) * kPanel, rows_size = up(size_t(block) * stride, size_t(16));
    float* sums = static_cast<float*>(aligned_alloc(64, sizeof(float) * up(sums_size + rows_size, size_t(16))));
    if (sums == nullptr) return 1;
    float* rows = sums + sums_size;
    for (int begin = 0; begin < a.rows; begin += block) {
        int count = a.rows - begin < block ? a.rows - begin : block;
        for (int r = 0; r < count; r++) read(a, begin + r, rows + int64_t(r) * stride);
        int tiles = up(count, kRows) / kRows;
        const float* weights = static_cast<const float*>(a.weights);
        for (int panel = 0; panel < a.panels; panel++) {
            for (int from = 0; from < a.in; from += kChain) {
                int inputs = a.in - from < kChain ? a.in - from : kChain;
                // Tiles of nearly equal size: a small last one would leave registers unused.
                for (int t = 0, done = 0; t < tiles; t++) {
                    int size = (count - done) / (tiles - t);
                    float* tile_sums = sums + int64_t(done) * kPanel;
                    // The first tiles prefetch the next part of the weights, which is not in the L2 cache.
                    const float* next = weights + (t < kLines ? inputs * (kPanel + t * kLine) : 0);
                    product(size, rows + int64_t(done) * stride + from, stride, weights, inputs, from == 0, tile_sums,
                            next);
                    if (from + inputs == a.in)
                        for (int r = 0; r < size; r++) finish(a, begin + done + r, panel, tile_sums + r * kPanel);
                    done += size;
                }
                weights += int64_t(inputs) * kPanel;
            }
        }
    }
    free(sums);
    return 0;
}

}  // namespace

#define NAME(what, level) NAME_(what, level)
#define NAME_(what, level) what##_##level

int NAME(linear_float32, LEVEL)(const LinearArguments& a, int64_t l2_bytes) { return linear(a, l2_bytes); }

// Pack `weights` [rows, in] into panels [rows / kPanel, in, kPanel], padded with zeros.
void NAME(pack_float32_panels, LEVEL)(const float* weights, int64_t rows, int64_t in, float* panels) {
    constexpr int kStep = 16;  // inputs of a row read at a time: one cache line
    for (int64_t first = 0; first < rows; first += kPanel, panels += kPanel * in)
        for (int64_t begin = 0; begin < in; begin += kStep)
            for (int64_t column = 0; column < kPanel; column++) {
                const float* row = weights + (first + column) * in;
                for (int64_t i = begin; i < begin + kStep && i < in; i++)
                    panels[i * kPanel + column] = first + column < rows ? row[i] : 0;
            }
}
