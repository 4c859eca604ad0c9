// Copies of queries, keys and values into the cells that the products of attention.cpp read.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "attention.h"
#include "vectors.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#ifdef __AMX_BF16__
#include "amx.h"
#endif

namespace {

typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));

// Operand of one step of a product: a float, or a pair of bfloat16 with the first in the lower half.
typedef uint32_t Cell __attribute__((may_alias));
#ifdef __AVX512BF16__
typedef uint16_t Scalar;
#else
typedef float Scalar;
#endif
constexpr int kPair = sizeof(Cell) / sizeof(Scalar);

#ifdef __AMX_BF16__
constexpr int kRows = 2 * kTileRows;        // of a product
constexpr int kStepCells = kTileBytes / 4;  // multiplied in one step
#elif defined(__AVX512F__)
constexpr int kRows = 12, kStepCells = 1;
#elif defined(__aarch64__)
constexpr int kRows = 12, kStepCells = 1;  // NEON, of which every such processor has 32 registers
#else
constexpr int kRows = 6, kStepCells = 1;
#endif
constexpr int kPanel = 2 * kLanes;  // queries computed together; kRows · 2 sums fill the registers

constexpr int up(int n, int to) { return (n + to - 1) / to * to; }

inline uint32_t to_bfloat16(float x) {
    uint32_t bits = load<uint32_t>(&x);
    return x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float from_bfloat16(uint16_t x) {
    uint32_t bits = uint32_t(x) << 16;
    return load<float>(&bits);
}

// Rows of one head of q, k or v.
struct HeadRows {
    const char* first;
    int64_t stride;  // in bytes
    int count, width;
    bool bfloat16;

    HeadRows(const void* base, bool bfloat16, int64_t element, int64_t row, int count, int width)
        : first(static_cast<const char*>(base) + element * (bfloat16 ? 2 : 4)),
          stride(row * (bfloat16 ? 2 : 4)),
          count(count),
          width(width),
          bfloat16(bfloat16) {}
};

// Copy row `index` in the dtype of the products, padded with zeros to `width` elements; zeros after the last row.
inline void read_row(const HeadRows& rows, int index, Scalar* to, int width) {
    typedef uint16_t Half __attribute__((may_alias));
    typedef float Single __attribute__((may_alias));
    int n = index < rows.count ? rows.width : 0;
    const char* from = rows.first + index * rows.stride;
    if (rows.bfloat16 == (sizeof(Scalar) == 2)) {
        constexpr int kPerVec = sizeof(Vec) / sizeof(Scalar);
        int i = 0;
        for (; i + kPerVec <= n; i += kPerVec) store(to + i, load<Vec>(from + i * sizeof(Scalar)));
        if (i < n) memcpy(to + i, from + i * sizeof(Scalar), (n - i) * sizeof(Scalar));
    } else if (rows.bfloat16) {
        for (int i = 0; i < n; i++) to[i] = from_bfloat16(reinterpret_cast<const Half*>(from)[i]);
    } else {
        for (int i = 0; i < n; i++) to[i] = to_bfloat16(reinterpret_cast<const Single*>(from)[i]);
    }
    if (n < width) memset(to + n, 0, (width - n) * sizeof(Scalar));
}

// Exchange the off-diagonal kStep × kStep blocks of two rows that are kStep apart, a step of a transposition.
template <int kStep, int... kLane>
inline void exchange(Bits& a, Bits& b, std::integer_sequence<int, kLane...>) {
    Bits upper = __builtin_shufflevector(a, b, (kLane & kStep ? kLanes + kLane - kStep : kLane)...);
    b = __builtin_shufflevector(a, b, (kLane & kStep ? kLanes + kLane : kLane + kStep)...);
    a = upper;
}

template <int kStep = kLanes / 2>
inline void transpose(Bits (&rows)[kLanes]) {
    if constexpr (kStep > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++)
            if (!(i & kStep)) exchange<kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kLanes>());
        transpose<kStep / 2>(rows);
    }
}

// Copy keys to `to` [keys, depth], with rows of zeros up to a multiple of what a product needs.
inline void copy_keys(const HeadRows& keys, int depth, Cell* to) {
    for (int key = 0; key < up(keys.count, kStepCells); key++)
        read_row(keys, key, reinterpret_cast<Scalar*>(to + int64_t(key) * depth), depth * kPair);
}

// Copy `count` queries from `first` on, transposed, to `to` [depth, kPanel], padded with zeros.
inline void copy_queries(const HeadRows& queries, int first, int count, int depth, Cell* to) {
    alignas(64) Scalar rows[kLanes][kMaxHeadDim];
    for (int query = 0; query < count; query += kLanes) {
        for (int i = 0; i < kLanes; i++) read_row(queries, first + query + i, rows[i], depth * kPair);
        for (int d = 0; d < depth; d += kLanes) {
            Bits block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) block[i] = load<Bits>(rows[i] + d * kPair);
            transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) store(to + (d + i) * kPanel + query, block[i]);
        }
    }
}

inline Bits pair(const Scalar* low, const Scalar* high) {
#ifdef __AVX512BF16__
    __m512i a = _mm512_cvtepu16_epi32(load<__m256i>(low)), b = _mm512_cvtepu16_epi32(load<__m256i>(high));
    return (Bits)_mm512_or_si512(a, _mm512_slli_epi32(b, 16));
#else
    (void)high;
    return load<Bits>(low);
#endif
}

// Copy values, transposed, to `to` [width, row], in cells of keys; padded with zeros.
inline void copy_values(const HeadRows& values, int width, int row, Cell* to) {
    alignas(64) Scalar rows[kPair * kLanes][kMaxHeadDim];
    for (int key = 0; key < values.count; key += kPair * kLanes) {
        for (int i = 0; i < kPair * kLanes; i++) read_row(values, key + i, rows[i], width);
        for (int d = 0; d < width; d += kLanes) {
            Bits block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) block[i] = pair(rows[kPair * i] + d, rows[kPair * i + kPair - 1] + d);
            transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) store(to + int64_t(d + i) * row + key / kPair, block[i]);
        }
    }
}

}  // namespace
