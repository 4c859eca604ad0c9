// The C interface of the kernels: which level of instructions serves a call, and how many threads share it.

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>

#include "attention.h"
#include "linear.h"
#include "rows.h"
#include "thread_pool.h"

#define PUBLIC extern "C" __attribute__((visibility("default")))

// Counted up with every change of an argument or of what a function means; library.py compares it with its own.
constexpr int kAbi = 6;

namespace {

enum AttentionLevel { kPortable, kAvx2, kAvx512, kAvx512Bf16 };
enum LinearLevel { kVnni = 1, kVnniBf16, kAmx };

// Threads that compute, each on a core of its own while all of them do, and whether this is one of them.
std::atomic<int> cores{1}, computing{0};
thread_local bool computes = false;

// Never destroyed: its helpers run as long as the process.
Team& team() {
    static Team* made = new Team;
    return *made;
}

// Below so many additions and multiplications, some 20 microseconds, a thread is not worth waking.
constexpr int64_t kWorth = 1 << 21;
constexpr int kFewestRows = 24;  // of a linear layer, that weights are read for

// How many parts to make of work that has up to `most`, and so much to do.
int parts(int64_t most, int64_t work) {
    int64_t free = computes ? cores / std::max(int(computing), 1) : 1;
    return int(std::max(std::min({most, work / kWorth, free}), int64_t(1)));
}

// Calls part(begin, end) for equal parts of [0, size), on as many threads. 1: one of them returned that.
template <class Part>
int shared(int count, int64_t size, const Part& part) {
    if (count == 1) return part(0, int(size));
    struct Work {
        int64_t count, size;
        const Part& part;
        std::atomic<int> failed;
    } work{count, size, part, 0};
    auto one = [](void* state, int i) {
        Work& w = *static_cast<Work*>(state);
        w.failed |= w.part(int(w.size * i / w.count), int(w.size * (i + 1) / w.count));
    };
    team().run(count, one, &work);
    return work.failed;
}

template <class Element>
Element* moved(Element* data, bool bfloat16, int64_t elements) {
    return data == nullptr ? data : (Element*)((const char*)data + elements * (bfloat16 ? 2 : 4));
}

int attention(const AttentionArguments& a, int level) {
#ifdef __x86_64__
    // Where v is float32, bfloat16 products would lose what the caller asked for.
    if (level >= kAvx512Bf16 && a.v_bfloat16) return attention_avx512_bf16(a);
    if (level >= kAvx512) return attention_avx512(a);
    if (level >= kAvx2) return attention_avx2(a);
#endif
    return attention_portable(a);
}

#ifdef __x86_64__
// Whether there is AMX with bfloat16, and Linux lets this process use it: it has to be asked, once for all threads.
bool has_tiles() {
    unsigned a, b, c, d;
    constexpr unsigned kTilesAndBfloat16 = 1 << 24 | 1 << 22;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTilesAndBfloat16) != kTilesAndBfloat16) return false;
    constexpr long kAskForState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
}
#endif

int rows(const RowsArguments& a, int level) {
#ifdef __x86_64__
    if (level >= kAvx512) return rows_avx512(a);
    if (level >= kAvx2) return rows_avx2(a);
#endif
    return rows_portable(a);
}

int linear(const LinearArguments& a, int level) {
    if (a.numbers == kFloat32) {
#ifdef __x86_64__
        if (level >= kAvx512) return linear_float32_avx512(a);
        if (level >= kAvx2) return linear_float32_avx2(a);
#endif
        return linear_float32_portable(a);
    }
#ifdef __x86_64__
    if (level >= kAmx) return linear_amx(a);
    return level >= kVnniBf16 ? linear_avx512_vnni_bf16(a) : linear_avx512_vnni(a);
#else
    return 1;  // `sie_linear_level()` is 0
#endif
}

}  // namespace

PUBLIC int sie_abi() { return kAbi; }

// So many cores are shared evenly by the threads that compute: where there are fewer of those, helpers take parts of
// their calls. No result depends on it.
PUBLIC void sie_use_cores(int count) {
    cores = count;
    team().grow(count - 1);
}

// Whether this thread computes, from now on, or may be helped out for.
PUBLIC void sie_compute(int yes) {
    if (computes == bool(yes)) return;
    computes = yes;
    computing += yes ? 1 : -1;
}

// The highest level of attention this processor has.
PUBLIC int sie_attention_level() {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return __builtin_cpu_supports("avx512bf16") ? kAvx512Bf16 : kAvx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
    return kPortable;
}

// 0: done; 1: no memory. `level` is at most `sie_attention_level()`.
PUBLIC int sie_attention(const AttentionArguments* arguments, int level) {
    const AttentionArguments& a = *arguments;
    int group = a.heads / a.kv_heads;
    // As many for each query as its sequence has keys: about as many as there are on average.
    int64_t queries = a.query_starts[a.sequences] - a.query_starts[0];
    int64_t keys = a.key_starts[a.sequences] - a.key_starts[0];
    int64_t seen = keys / std::max(a.sequences, 1);
    if (a.window >= 0) seen = std::min(seen, int64_t(2) * a.window + 1);
    int64_t work = 2 * queries * seen * a.heads * a.head_dim;
    return shared(parts(a.kv_heads, work), a.kv_heads, [&](int begin, int end) {
        AttentionArguments part = a;
        part.q = moved(a.q, a.qk_bfloat16, begin * group * a.q_head);
        part.k = moved(a.k, a.qk_bfloat16, begin * a.k_head);
        part.v = moved(a.v, a.v_bfloat16, begin * a.v_head);
        part.out = moved(a.out, a.v_bfloat16, int64_t(begin) * group * a.head_dim);
        part.heads = (end - begin) * group;
        part.kv_heads = end - begin;
        return attention(part, level);
    });
}

// As `sie_attention`, for the norms and the rotation.
PUBLIC int sie_rows(const RowsArguments* arguments, int level) {
    const RowsArguments& a = *arguments;
    int64_t row = int64_t(a.heads) * a.width;
    return shared(parts(a.rows, a.rows * row * 16), a.rows, [&](int begin, int end) {
        RowsArguments part = a;
        part.x = moved(a.x, a.x_bfloat16, begin * a.x_row);
        part.y = moved(a.y, a.y_bfloat16, begin * row);
        part.cos = moved(a.cos, false, int64_t(begin) * a.width);
        part.sin = moved(a.sin, false, int64_t(begin) * a.width);
        part.rows = end - begin;
        return rows(part, level);
    });
}

// What linear layers this processor can compute: 0 none, 1 those in integers, 2 those in bfloat16 too, 3 those by AMX.
PUBLIC int sie_linear_level() {
#ifdef __x86_64__
    int level = sie_attention_level();
    if (level >= kAvx512 && __builtin_cpu_supports("avx512vnni"))
        return level < kAvx512Bf16 ? kVnni : has_tiles() ? kAmx : kVnniBf16;
#endif
    return 0;
}

// Columns of a panel of float32 weights.
PUBLIC int sie_float32_columns(int level) { return level >= kAvx512 ? 32 : level >= kAvx2 ? 16 : 8; }

// `weights` [rows, in] as panels of that many rows, each [in, columns], with zeros behind the last row.
PUBLIC void sie_lay_float32(const float* weights, int64_t rows, int64_t in, float* panels, int level) {
#ifdef __x86_64__
    if (level >= kAvx512) return lay_float32_avx512(weights, rows, in, panels);
    if (level >= kAvx2) return lay_float32_avx2(weights, rows, in, panels);
#endif
    lay_float32_portable(weights, rows, in, panels);
}

// 0: done; 1: no memory. `level` in float32: at most `sie_attention_level()`. Else at least 1, or 2 for bfloat16, and at
// most `sie_linear_level()`.
PUBLIC int sie_linear(const LinearArguments* arguments, int level) {
    const LinearArguments& a = *arguments;
    int64_t work = int64_t(a.rows) * a.in * (a.gated ? 2 * a.out : a.out);
    return shared(parts(a.rows / kFewestRows, work), a.rows, [&](int begin, int end) {
        LinearArguments part = a;
        part.x = moved(a.x, a.x_bfloat16, begin * a.x_row);
        part.residual = moved(a.residual, false, begin * a.residual_row);
        part.y = moved(a.y, a.y_bfloat16, begin * a.y_row);
        part.rows = end - begin;
        return linear(part, level);
    });
}
