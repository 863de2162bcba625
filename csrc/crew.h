// Threads that stay for many short rounds of work, where starting them for each would take longer.

#pragma once

#include <chrono>

#include "native.h"

class Crew {
 public:
  explicit Crew(int threads) {
    for (int i = 1; i < threads; ++i)
      members_.emplace_back([this] {
        while (!over_.load(std::memory_order_relaxed))
          if (!work()) std::this_thread::yield();
      });
  }

  ~Crew() {
    over_ = true;
    for (std::thread& member : members_) member.join();
  }

  // f(i) for every i < n; the calling thread works too. It needs no lock of the interpreter, and
  // throws if a signal is pending afterwards, for which it looks now and then: it may wait for the
  // lock longer than for the work.
  void each(int n, const std::function<void(int)>& f) {
    done_ = 0, count_ = n, work_ = &f;
    ticket_ = ++round_ << 32;
    while (work()) continue;
    while (done_.load(std::memory_order_acquire) < n) std::this_thread::yield();
    ticket_ = round_ << 32 | CLOSED;  // before the next round's count and work
    const auto now = std::chrono::steady_clock::now();
    if (now - checked_ < std::chrono::milliseconds(50)) return;
    checked_ = now;
    py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  static constexpr std::uint64_t CLOSED = 0xffffffff;

  // Does one task of this round; whether there was one.
  bool work() {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    const std::uint64_t task = ticket & CLOSED;
    if (task >= std::uint64_t(count_.load())) return false;
    const std::function<void(int)>* f = work_.load();
    // Nobody has taken it and the round is the same, hence `f` too.
    if (!ticket_.compare_exchange_strong(ticket, ticket + 1)) return true;
    (*f)(int(task));
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }

  std::atomic<std::uint64_t> ticket_{CLOSED};  // round and next task
  std::uint64_t round_ = 0;
  std::atomic<int> count_{0}, done_{0};
  std::atomic<const std::function<void(int)>*> work_{nullptr};
  std::atomic<bool> over_{false};
  std::chrono::steady_clock::time_point checked_ = std::chrono::steady_clock::now();
  std::vector<std::thread> members_;
};
