// Helper threads that take parts of other threads' work, and sleep while there is none.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdint>

class HelperPool {
   public:
    // Start threads until there are at least `helpers`, or the system refuses more.
    void grow(int helpers) {
        pthread_mutex_lock(&mutex_);
        for (pthread_t thread; helpers_ < helpers && pthread_create(&thread, nullptr, help, this) == 0; helpers_++)
            pthread_detach(thread);
        pthread_mutex_unlock(&mutex_);
    }

    // Call part(state, i) for each i below `count`, on this thread and on idle helpers. Returns when all are done.
    void run(int count, void (*part)(void*, int), void* state) {
        Job* job = count > 1 ? free_job() : nullptr;
        if (job == nullptr) {
            for (int i = 0; i < count; i++) part(state, i);
            return;
        }
        // While the ticket is closed nobody takes a part, so the fields can be written.
        uint64_t generation = (job->ticket.load() >> 32) + 1;
        job->ticket.store(generation << 32 | kClosed);
        job->part.store(part);
        job->state.store(state);
        job->count.store(count);
        job->left.store(count);
        job->ticket.store(generation << 32);
        posted_++;
        if (sleepers_.load() > 0) {
            pthread_mutex_lock(&mutex_);
            for (int i = 1; i < count; i++) pthread_cond_signal(&work_);
            pthread_mutex_unlock(&mutex_);
        }
        while (take(*job)) {
        }
        for (int spins = 0; job->left.load(std::memory_order_acquire) > 0; spins++) pause(spins);
        job->busy.store(false);
    }

   private:
    static constexpr uint64_t kClosed = 0xffffffff;
    static constexpr int kJobs = 64;
    static constexpr int kSpins = 10000;  // a few hundred microseconds, longer than until the next layer

    // ticket: generation of the job in the high 32 bits, next part to take in the low 32 bits.
    // left: parts not yet done.
    struct alignas(64) Job {
        std::atomic<bool> busy{false};
        std::atomic<uint64_t> ticket{kClosed};
        std::atomic<int> count{0}, left{0};
        std::atomic<void (*)(void*, int)> part{nullptr};
        std::atomic<void*> state{nullptr};
    };

    static void pause(int spins) {
        if (spins > kSpins) sched_yield();
#ifdef __x86_64__
        __builtin_ia32_pause();
#endif
    }

    Job* free_job() {
        for (Job& job : jobs_)
            if (!job.busy.load(std::memory_order_relaxed) && !job.busy.exchange(true)) return &job;
        return nullptr;
    }

    // Do the next part of a job. Returns false if there is none.
    static bool take(Job& job) {
        uint64_t ticket = job.ticket.load();
        int64_t next = ticket & kClosed;
        if (next >= job.count.load()) return false;
        auto part = job.part.load();
        void* state = job.state.load();
        // Success means that the generation has not changed, so `part` and `state` belong to it.
        if (!job.ticket.compare_exchange_strong(ticket, ticket + 1)) return true;
        part(state, int(next));
        job.left.fetch_sub(1, std::memory_order_release);
        return true;
    }

    static void* help(void* pool) {
        static_cast<HelperPool*>(pool)->help();
        return nullptr;
    }

    [[noreturn]] void help() {
        for (int spins = 0;; spins++) {
            uint32_t seen = posted_.load();
            for (Job& job : jobs_)
                while (job.busy.load(std::memory_order_relaxed) && take(job)) spins = 0;
            if (spins < kSpins) {
                pause(0);
                continue;
            }
            pthread_mutex_lock(&mutex_);
            sleepers_++;
            while (posted_.load() == seen) pthread_cond_wait(&work_, &mutex_);
            sleepers_--;
            pthread_mutex_unlock(&mutex_);
            spins = 0;
        }
    }

    Job jobs_[kJobs];
    std::atomic<uint32_t> posted_{0};
    std::atomic<int> sleepers_{0};
    int helpers_ = 0;
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t work_ = PTHREAD_COND_INITIALIZER;
};
