// Vectors of sixteen floats in AVX-512.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kLanes = 16;

template <class T>
constexpr T up(T n, T to) {
    return (n + to - 1) / to * to;
}

// Mask of the first `n` lanes.
inline __mmask16 first(int n) { return n >= kLanes ? 0xffff : n <= 0 ? 0 : (1u << n) - 1; }

inline __m512 from_bfloat16(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

// Rounds to nearest, ties to even; NaN stays NaN.
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

inline __m512i to_bfloat16(__m512 low, __m512 high) {
#ifdef __AVX512BF16__
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
#else
    return _mm512_inserti64x4(_mm512_castsi256_si512(to_bfloat16(low)), to_bfloat16(high), 1);
#endif
}

// Loads float32 or bfloat16 values from index `element` on; zeros in masked lanes.
inline __m512 load(const void* from, bool bfloat16, int64_t element, __mmask16 lanes) {
    if (!bfloat16) return _mm512_maskz_loadu_ps(lanes, static_cast<const float*>(from) + element);
    return from_bfloat16(_mm256_maskz_loadu_epi16(lanes, static_cast<const uint16_t*>(from) + element));
}

inline void store(void* to, bool bfloat16, int64_t element, __m512 y, __mmask16 lanes) {
    if (bfloat16)
        _mm256_mask_storeu_epi16(static_cast<uint16_t*>(to) + element, lanes, to_bfloat16(y));
    else
        _mm512_mask_storeu_ps(static_cast<float*>(to) + element, lanes, y);
}

// 2^x by the polynomial with minimax relative error on [-1/2, 1/2], which is 7.5e-5.
inline __m512 exp2(__m512 x) {
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0.0551716685f), f, _mm512_set1_ps(0.242611125f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.693260968f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(y, f, _mm512_set1_ps(0.999928057f)), whole);
}

}  // namespace
