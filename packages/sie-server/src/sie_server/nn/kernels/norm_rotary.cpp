// Norms and rotary positions for one instruction set, named by LEVEL and enabled by the compiler's flags. Computed in
// float32, row by row, with the row in the L1 cache.

#include "norm_rotary.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vec __attribute__((vector_size(4 * kLanes)));

inline Vec load(const float* from) {
    Vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

inline void store(float* to, Vec v) { memcpy(to, &v, sizeof v); }

inline float total(Vec v) {
    float sum = 0;
    for (int i = 0; i < kLanes; i++) sum += v[i];
    return sum;
}

void read(const NormRotaryArguments& a, int64_t element, float* to) {
    if (!a.x_bfloat16) {
        memcpy(to, static_cast<const float*>(a.x) + element, sizeof(float) * a.width);
        return;
    }
    const uint16_t* from = static_cast<const uint16_t*>(a.x) + element;
    uint32_t* bits = reinterpret_cast<uint32_t*>(to);
    for (int i = 0; i < a.width; i++) bits[i] = uint32_t(from[i]) << 16;
}

// Rounds to nearest, ties to even; NaN stays NaN.
void write(const NormRotaryArguments& a, int64_t element, const float* from) {
    if (!a.y_bfloat16) {
        memcpy(static_cast<float*>(a.y) + element, from, sizeof(float) * a.width);
        return;
    }
    uint16_t* to = static_cast<uint16_t*>(a.y) + element;
    const uint32_t* bits = reinterpret_cast<const uint32_t*>(from);
    for (int i = 0; i < a.width; i++) {
        uint32_t rounded = (bits[i] + 0x7fff + (bits[i] >> 16 & 1)) >> 16;
        to[i] = uint16_t((bits[i] & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
    }
}

// `z` holds a row, padded with zeros to whole vectors.
void norm(const NormRotaryArguments& a, float* z) {
    float mean = 0;
    if (!a.rms) {
        Vec sum{};
        for (int i = 0; i < a.width; i += kLanes) sum += load(z + i);
        mean = total(sum) / a.width;
    }
    Vec squares{};
    for (int i = 0; i + kLanes <= a.width; i += kLanes) {
        Vec centered = load(z + i) - mean;
        store(z + i, centered);
        squares += centered * centered;
    }
    float sum = total(squares);
    for (int i = a.width / kLanes * kLanes; i < a.width; i++) {
        z[i] -= mean;
        sum += z[i] * z[i];
    }
    float scale = 1 / std::sqrt(sum / a.width + a.eps);
    for (int i = 0; i < a.width; i++) z[i] = z[i] * scale * a.weight[i];
    if (a.bias)
        for (int i = 0; i < a.width; i++) z[i] += a.bias[i];
}

// Rotate each pair (i, i + width / 2) by the angle of the row's position.
void rotate(const NormRotaryArguments& a, int row, float* z) {
    const float *cos = a.cos + int64_t(row) * a.width, *sin = a.sin + int64_t(row) * a.width;
    int half = a.width / 2;
    for (int i = 0; i < half; i++) {
        float first = z[i], second = z[i + half];
        z[i] = first * cos[i] - second * sin[i];
        z[i + half] = second * cos[i + half] + first * sin[i + half];
    }
}

}  // namespace

#define NAME(level) NAME_(level)
#define NAME_(level) norm_rotary_##level

int NAME(LEVEL)(const NormRotaryArguments& a) {
    int size = (a.width + kLanes - 1) / kLanes * kLanes;
    float* z = static_cast<float*>(aligned_alloc(64, (sizeof(float) * size + 63) / 64 * 64));
    if (z == nullptr) return 1;
    memset(z, 0, sizeof(float) * size);
    for (int row = 0; row < a.rows; row++) {
        for (int head = 0; head < a.heads; head++) {
            read(a, row * a.x_row + head * a.x_head, z);
            if (a.cos)
                rotate(a, row, z);
            else
                norm(a, z);
            write(a, (int64_t(row) * a.heads + head) * a.width, z);
        }
    }
    free(z);
    return 0;
}
