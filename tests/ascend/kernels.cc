// CPU kernels of operators of Ascend that ascend_ops_cpu lacks, by their documents; compiled as a part of it.
// KVCacheScatterUpdate is aclnnInplaceScatterUpdate: data (B, N, S, D), indices (B), updates (B, N, L, D), axis -2.

namespace aoc {
namespace {
class KVCacheScatterUpdateK : public Kernel {
  void Run() override {  // var indices updates axis reduce -> var
    auto cache = InShape(0), rows = InShape(2);
    Need(InType(0) == kF16 || InType(0) == kBF16 || InType(0) == kF32, "var must be float16, bfloat16 or float32");
    SameType(0, 2, "var and updates");
    Need(InType(1) == mindspore::kNumberTypeInt32 || InType(1) == mindspore::kNumberTypeInt64, "indices must be int32 or int64");
    Need(cache.size() == 4 && rows.size() == 4, "var and updates must have 4 axes");
    Need(Int(3) == -2, "axis must be -2 here");
    Need(InShape(1) == Shape({rows[0]}), "indices must be one for each item of updates");
    Need(rows[0] <= cache[0] && rows[1] == cache[1] && rows[3] == cache[3], "updates " + aoc::Str(rows) + " do not fit " + aoc::Str(cache));
    auto first = Ints(1);
    size_t width = static_cast<size_t>(rows[3]) * mindspore::GetTypeByte(mindspore::TypeIdToType(InType(0)));
    auto to = static_cast<char *>(In(0)->device_ptr());
    auto from = static_cast<const char *>(In(2)->device_ptr());
    for (int64_t b = 0; b < rows[0]; ++b) {
      Need(first[b] >= 0 && first[b] + rows[2] <= cache[2], "slot " + std::to_string(first[b]) + " is outside the cache");
      for (int64_t n = 0; n < rows[1]; ++n)
        std::memcpy(to + ((b * cache[1] + n) * cache[2] + first[b]) * width, from + (b * rows[1] + n) * rows[2] * width, rows[2] * width);
    }
    if (Out(0)->device_ptr() != nullptr && Out(0)->device_ptr() != In(0)->device_ptr())
      std::memcpy(Out(0)->device_ptr(), In(0)->device_ptr(), std::min(In(0)->size(), Out(0)->size()));
  }
};

class AddRmsNormK : public Kernel {
  void Run() override {  // x1 x2 gamma epsilon -> y rstd x
    FloatType(0, "x1");
    SameType(0, 1, "x1 and x2");
    SameType(0, 2, "x1 and gamma");
    auto s = InShape(0), g = InShape(2);
    Need(s == InShape(1), "x1 and x2 must have one shape");
    Need(!g.empty() && g.size() <= s.size() && std::equal(g.rbegin(), g.rend(), s.rbegin()), "gamma is not the tail of x1");
    double eps = Real(3);
    Floats a = Load(0), b = Load(1), w = Load(2), x(a.size()), y(a.size());
    size_t n = w.size(), rows = a.size() / n;
    Floats r(rows);
    for (size_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (size_t j = i * n; j < (i + 1) * n; ++j) {
        x[j] = a[j] + b[j];
        sum += static_cast<double>(x[j]) * x[j];
      }
      double q = 1.0 / std::sqrt(sum / n + eps);
      r[i] = static_cast<float>(q);
      for (size_t j = 0; j < n; ++j) y[i * n + j] = static_cast<float>(x[i * n + j] * q * w[j]);
    }
    Store(0, y);
    Store(1, r);
    Store(2, x);
  }
};

const bool provided = [] {
  Provide<KVCacheScatterUpdateK>("KVCacheScatterUpdate");
  Provide<AddRmsNormK>("AddRmsNorm");
  return true;
}();
}  // namespace
}  // namespace aoc
