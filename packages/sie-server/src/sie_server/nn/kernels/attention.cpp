// Softmax attention over packed sequences for one instruction set, named by LEVEL and enabled by the compiler's flags.
//
// For every sequence and key head, K and V are copied once into the order in which the products read them. Then, head
// by head, each tile of a few queries iterates over blocks of keys: logits, softmax with a running maximum (Milakov and
// Gimelshein 2018) and the weighted sum of the values, in the L1 cache; K and V stream from the L2 cache. The
// computation for a query depends on its sequence alone, so its bits do not depend on the batch.
//
// No templates of the standard library: the linker would keep a single copy of each, compiled for any instruction set.

#include "attention.h"

#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 12;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kRows = 6;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRows = 12;  // NEON, of which every such processor has 32 registers
#else
constexpr int kLanes = 4, kRows = 6;
#endif
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));

// Operand of one step of a product: a float, or a pair of bfloat16 with the first in the lower half.
typedef uint32_t Cell __attribute__((may_alias));
#ifdef __AVX512BF16__
constexpr int kPair = 2;
#else
constexpr int kPair = 1;
#endif

constexpr int kPanel = 2 * kLanes;  // columns computed together; kRows · 2 sums fill the registers
constexpr int kKeys = 256;          // keys of a block
// Row strides of tiles are not powers of two, which would map all rows to the same few cache sets.
constexpr int kLogitRow = kKeys + 16, kHeadRow = kMaxHeadDim + 16;

struct Tile {
    alignas(64) float logits[kRows * kLogitRow];
    alignas(64) Cell weights[kRows * kLogitRow];
    alignas(64) Cell queries[kRows * kHeadRow];
    alignas(64) float out[kRows * kHeadRow];
    float maximum[kRows], sum[kRows];
};

constexpr int up(int n, int to) { return (n + to - 1) / to * to; }

template <class V>
inline V load(const void* from) {
    V v;
    memcpy(&v, from, sizeof v);
    return v;
}

template <class V>
inline void store(void* to, V v) {
    memcpy(to, &v, sizeof v);
}

inline uint32_t to_bfloat16(float x) {
    uint32_t bits = load<uint32_t>(&x);
    return x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float from_bfloat16(uint16_t x) {
    uint32_t bits = uint32_t(x) << 16;
    return load<float>(&bits);
}

// ---- Copies into cells

const char* at(const void* base, bool bfloat16, int64_t element) {
    return static_cast<const char*>(base) + element * (bfloat16 ? 2 : 4);
}

#ifdef __AVX512BF16__
typedef uint16_t Scalar;
#else
typedef float Scalar;
#endif

// Copy a row of `n` elements in the dtype of the products, padded with zeros to `width`.
inline void read_row(Scalar* to, const char* from, bool bfloat16, int n, int width) {
    typedef uint16_t Half __attribute__((may_alias));
    typedef float Single __attribute__((may_alias));
    if (bfloat16 == (sizeof(Scalar) == 2)) {
        constexpr int kPerVec = sizeof(Vec) / sizeof(Scalar);
        int i = 0;
        for (; i + kPerVec <= n; i += kPerVec) store(to + i, load<Vec>(from + i * sizeof(Scalar)));
        if (i < n) memcpy(to + i, from + i * sizeof(Scalar), (n - i) * sizeof(Scalar));
    } else if (bfloat16) {
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

template <int kStep>
inline void transpose(Bits (&rows)[kLanes]) {
    if constexpr (kStep > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++)
            if (!(i & kStep)) exchange<kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kLanes>());
        transpose<kStep / 2>(rows);
    }
}

// Copy K of one head into panels [keys / kPanel][depth][kPanel], padded with zeros.
void copy_keys(const AttentionArguments& a, int64_t first, int keys, int head, int depth, Cell* to) {
    alignas(64) Scalar rows[kLanes][up(kMaxHeadDim, kLanes * kPair)];
    for (int key = 0; key < up(keys, kPanel); key += kLanes) {
        for (int i = 0; i < kLanes; i++) {
            bool inside = key + i < keys;
            int64_t element = inside ? (first + key + i) * a.k_row + head * a.k_head : 0;
            read_row(rows[i], at(a.k, a.qk_bfloat16, element), a.qk_bfloat16, inside ? a.head_dim : 0, depth * kPair);
        }
        Cell* panel = to + key / kPanel * kPanel * depth + key % kPanel;
        for (int d = 0; d < depth; d += kLanes) {
            Bits block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) block[i] = load<Bits>(rows[i] + d * kPair);
            transpose<kLanes / 2>(block);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) store(panel + (d + i) * kPanel, block[i]);
        }
    }
}

// Copy V of one head into panels [width / kPanel][keys / kPair][kPanel], padded with zeros.
void copy_values(const AttentionArguments& a, int64_t first, int keys, int head, int width, Cell* to) {
    alignas(64) Scalar rows[kPair][up(kMaxHeadDim, kPanel)];
    int steps = up(keys, kPair) / kPair;
    for (int step = 0; step < steps; step++) {
        for (int i = 0; i < kPair; i++) {
            int key = step * kPair + i;
            bool inside = key < keys;
            int64_t element = inside ? (first + key) * a.v_row + head * a.v_head : 0;
            read_row(rows[i], at(a.v, a.v_bfloat16, element), a.v_bfloat16, inside ? a.head_dim : 0, width);
        }
        for (int panel = 0; panel < width; panel += kPanel) {
            Cell* cells = to + panel * steps + step * kPanel;
#ifdef __AVX512BF16__
            for (int c = 0; c < kPanel; c++) cells[c] = rows[0][panel + c] | uint32_t(rows[1][panel + c]) << 16;
#else
            memcpy(cells, rows[0] + panel, sizeof(float) * kPanel);
#endif
        }
    }
}

// ---- Products

inline Vec multiply_add(Cell a, Bits b, Vec sum) {
#ifdef __AVX512BF16__
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
#else
    return load<float>(&a) * (Vec)b + sum;
#endif
}

// c = a · b, or c += a · b with `add`, for R rows and C · kLanes columns, in registers.
template <int R, int C>
void product(const Cell* a, int a_row, const Cell* b, int steps, float* c, int c_row, bool add) {
    Vec sums[R][C];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int j = 0; j < C; j++) sums[r][j] = add ? load<Vec>(c + r * c_row + j * kLanes) : Vec{};
    for (int step = 0; step < steps; step++) {
        Bits columns[C];
#pragma GCC unroll 2
        for (int j = 0; j < C; j++) columns[j] = load<Bits>(b + step * kPanel + j * kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int j = 0; j < C; j++) sums[r][j] = multiply_add(a[r * a_row + step], columns[j], sums[r][j]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int j = 0; j < C; j++) store(c + r * c_row + j * kLanes, sums[r][j]);
}

template <int R = kRows>
inline void product(int rows, int columns, const Cell* a, int a_row, const Cell* b, int steps, float* c, int c_row,
                    bool add) {
    if (rows < R) {
        if constexpr (R > 1) product<R - 1>(rows, columns, a, a_row, b, steps, c, c_row, add);
    } else if (columns > kLanes) {
        product<R, 2>(a, a_row, b, steps, c, c_row, add);
    } else {
        product<R, 1>(a, a_row, b, steps, c, c_row, add);
    }
}

// ---- Softmax

// 2^x for x <= 0; exactly 0 below -127. By the polynomial with minimax relative error on [-1/2, 1/2]: 7.5e-8, or 7.5e-5
// where the result is rounded to bfloat16 (3.9e-3).
inline Vec exp2(Vec x) {
    x = x < -127.0f ? Vec{} - 127.0f : x;
    Vec shifted = x + 0x1.8p23f;  // its lowest bits are the nearest integer
    Vec f = x - (shifted - 0x1.8p23f);
#ifdef __AVX512BF16__
    Vec y = ((0.0551716685f * f + 0.242611125f) * f + 0.693260968f) * f + 0.999928057f;
#else
    Vec y = (0.00132764725f * f + 0.00967554189f) * f + 0.0555071309f;
    y = ((y * f + 0.240221202f) * f + 0.693146944f) * f + 1.00000012f;
#endif
    return y * (Vec)(((Bits)shifted + 127u) << 23);  // -127 gives the bits of 0; a product keeps NaN
}

template <int kStep, int... kLane>
inline Vec rotated(Vec x, std::integer_sequence<int, kLane...>) {
    return __builtin_shufflevector(x, x, ((kLane + kStep) % kLanes)...);
}

inline Vec larger(Vec x, Vec y) { return x > y ? x : y; }

// The maximum and the sum of all lanes, in every lane.
template <int kStep = kLanes / 2>
inline Vec maximum(Vec x) {
    if constexpr (kStep > 0)
        return maximum<kStep / 2>(larger(x, rotated<kStep>(x, std::make_integer_sequence<int, kLanes>())));
    return x;
}

template <int kStep = kLanes / 2>
inline Vec total(Vec x) {
    if constexpr (kStep > 0) return total<kStep / 2>(x + rotated<kStep>(x, std::make_integer_sequence<int, kLanes>()));
    return x;
}

inline void store_weights(Cell* to, int column, Vec low, Vec high) {
#ifdef __AVX512BF16__
    store(to + column / 2, _mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
#else
    store(to + column, low);
    store(to + column + kLanes, high);
#endif
}

// Turn logits of row r into weights exp(logit - maximum) in the columns [low, high), and 0 elsewhere. Updates the
// running maximum and sum, and rescales the output so far. `factor` is log2(e) · scale.
void softmax(Tile& tile, int r, int low, int high, int columns, float factor, int width) {
    float* logits = tile.logits + r * kLogitRow;
    Cell* weights = tile.weights + r * kLogitRow;
    columns = up(columns, kPanel);
    if (low >= high) {
        memset(weights, 0, columns / kPair * sizeof(Cell));
        return;
    }
    for (int i = 0; i < low; i++) logits[i] = -FLT_MAX;
    for (int i = high; i < columns; i++) logits[i] = -FLT_MAX;
    Vec before = Vec{} + tile.maximum[r], max_low = before, max_high = before;
    for (int i = 0; i < columns; i += kPanel) {
        max_low = larger(load<Vec>(logits + i), max_low);
        max_high = larger(load<Vec>(logits + i + kLanes), max_high);
    }
    Vec now = maximum(larger(max_high, max_low));
    Vec sum{}, other{}, offset = now * -factor;
    for (int i = 0; i < columns; i += kPanel) {
        Vec x = exp2(load<Vec>(logits + i) * factor + offset);
        Vec y = exp2(load<Vec>(logits + i + kLanes) * factor + offset);
        sum += x;
        other += y;
        store_weights(weights, i, x, y);
    }
    Vec shrunk = exp2((before - now) * factor);
    tile.maximum[r] = now[0];
    tile.sum[r] = tile.sum[r] * shrunk[0] + total(sum + other)[0];
    if (before[0] != now[0])
        for (int i = 0; i < width; i += kLanes)
            store(tile.out + r * kHeadRow + i, load<Vec>(tile.out + r * kHeadRow + i) * shrunk);
}

// ---- Attention

struct Head {
    const Cell *keys, *values;
    int64_t first_query;
    int queries, key_count, index, depth, width;
};

// Attention of up to kRows queries of one head, from the sequence's query `first` on.
void attend(const AttentionArguments& a, const Head& head, int first, int rows, Tile& tile) {
    int position = first + (a.causal ? head.key_count - head.queries : 0);
    auto low = [&](int r) { return a.window < 0 || position + r < a.window ? 0 : position + r - a.window; };
    auto high = [&](int r) {
        int64_t end = a.causal       ? position + r + 1
                      : a.window < 0 ? head.key_count
                                     : int64_t(position) + r + a.window + 1;
        return int(end < head.key_count ? end : head.key_count);
    };
    float factor = a.scale * float(M_LOG2E);
    int steps = up(a.head_dim, kPair) / kPair, all_steps = up(head.key_count, kPair) / kPair;
    for (int r = 0; r < rows; r++) {
        int64_t element = (head.first_query + first + r) * a.q_row + head.index * a.q_head;
        read_row(reinterpret_cast<Scalar*>(tile.queries + r * kHeadRow), at(a.q, a.qk_bfloat16, element), a.qk_bfloat16,
                 a.head_dim, up(a.head_dim, kPair));
        memset(tile.out + r * kHeadRow, 0, sizeof(float) * head.width);
        tile.maximum[r] = -FLT_MAX;
        tile.sum[r] = 0;
    }
    int last = high(rows - 1);
    for (int from = low(0) / kPanel * kPanel; from < last; from += kKeys) {
        int columns = last - from < kKeys ? last - from : kKeys;
        for (int c = 0; c < columns; c += kPanel)
            product(rows, columns - c, tile.queries, kHeadRow, head.keys + int64_t(from + c) * head.depth, steps,
                    tile.logits + c, kLogitRow, false);
        for (int r = 0; r < rows; r++) {
            int begin = low(r) - from, end = high(r) - from;
            softmax(tile, r, begin < 0 ? 0 : begin, end < columns ? end : columns, columns, factor, head.width);
        }
        for (int d = 0; d < a.head_dim; d += kPanel) {
            const Cell* values = head.values + int64_t(d) * all_steps + from / kPair * kPanel;
            product(rows, a.head_dim - d, tile.weights, kLogitRow, values, up(columns, kPair) / kPair, tile.out + d,
                    kHeadRow, true);
        }
    }
    for (int r = 0; r < rows; r++) {
        const float* from = tile.out + r * kHeadRow;
        int64_t element = (head.first_query + first + r) * a.out_row + int64_t(head.index) * a.head_dim;
        float inverse = 1 / tile.sum[r];
        if (a.v_bfloat16)
            for (int i = 0; i < a.head_dim; i++)
                static_cast<uint16_t*>(a.out)[element + i] = uint16_t(to_bfloat16(from[i] * inverse));
        else
            for (int i = 0; i < a.head_dim; i++) static_cast<float*>(a.out)[element + i] = from[i] * inverse;
    }
}

}  // namespace

#define NAME(level) NAME_(level)
#define NAME_(level) attention_##level

int NAME(LEVEL)(const AttentionArguments& a) {
    int longest = 0;
    for (int s = 0; s < a.sequences; s++) {
        int keys = a.key_starts[s + 1] - a.key_starts[s];
        longest = keys > longest ? keys : longest;
    }
    int depth = up(a.head_dim, kPair * kLanes) / kPair, width = up(a.head_dim, kPanel);
    size_t key_cells = size_t(up(longest, kPanel)) * depth, value_cells = size_t(up(longest, kPanel) / kPair) * width;
    void* memory = aligned_alloc(64, sizeof(Tile) + sizeof(Cell) * (key_cells + value_cells));
    if (memory == nullptr) return 1;
    Tile& tile = *static_cast<Tile*>(memory);
    Cell* keys = reinterpret_cast<Cell*>(&tile + 1);
    Cell* values = keys + key_cells;
    int group = a.heads / a.kv_heads;
    for (int s = 0; s < a.sequences; s++) {
        int64_t first_query = a.query_starts[s], first_key = a.key_starts[s];
        int queries = int(a.query_starts[s + 1] - first_query), count = int(a.key_starts[s + 1] - first_key);
        int tiles = up(queries, kRows) / kRows;
        for (int kv = 0; kv < a.kv_heads; kv++) {
            copy_keys(a, first_key, count, kv, depth, keys);
            copy_values(a, first_key, count, kv, width, values);
            for (int index = kv * group; index < (kv + 1) * group; index++) {
                Head head{keys, values, first_query, queries, count, index, depth, width};
                // Tiles of nearly equal size: a small last one would leave registers unused.
                for (int t = 0, first = 0; t < tiles; t++) {
                    int rows = (queries - first) / (tiles - t);
                    attend(a, head, first, rows, tile);
                    first += rows;
                }
            }
        }
    }
    free(memory);
    return 0;
}
