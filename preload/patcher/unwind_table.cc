// unwind_table.cc - DWARF exception tables, as the Linux Standard Base (core, "Exception Frames")
// and the Itanium C++ ABI ("Exception Handling Tables") lay them out.
// SPDX-License-Identifier: Apache-2.0
#include "preload/patcher/unwind_table.h"

namespace weft::preload {
namespace {

// Pointer encodings (DW_EH_PE_*): the low four bits give the format, the next three the base.
constexpr uint8_t kFormatAbsolute = 0x00;
constexpr uint8_t kFormatUleb128 = 0x01;
constexpr uint8_t kFormatUdata4 = 0x03;
constexpr uint8_t kFormatUdata8 = 0x04;
constexpr uint8_t kFormatSdata4 = 0x0b;
constexpr uint8_t kFormatSdata8 = 0x0c;
constexpr uint8_t kBasePosition = 0x10;  // relative to the field itself
constexpr uint8_t kBaseHeader = 0x30;    // relative to .eh_frame_hdr
constexpr uint8_t kOmitted = 0xff;

constexpr size_t kAugmentationMax = 8;
// A description longer than this is not a description.
constexpr uint32_t kRecordBytesMax = 1 << 20;

template <typename T>
T load(uintptr_t address) {
  T value;
  __builtin_memcpy(&value, reinterpret_cast<const void*>(address), sizeof value);
  return value;
}

// Reads fields one after the other; the first that is not readable makes all later ones zero.
class Reader {
 public:
  Reader(const ElfImage& image, uintptr_t at) : image_(image), at_(at) {}

  template <typename T>
  T fixed() {
    if (!valid_ || !image_.readable(at_, sizeof(T))) {
      valid_ = false;
      return T{};
    }
    const T value = load<T>(at_);
    at_ += sizeof(T);
    return value;
  }
  uint64_t uleb128() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
      const auto byte = fixed<uint8_t>();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    valid_ = false;
    return 0;
  }
  // Zero stays zero: it means "no pointer", whatever the base.
  uintptr_t encoded(uint8_t encoding) {
    if (encoding == kOmitted) return 0;
    const uintptr_t base = (encoding & 0x70) == kBasePosition ? at_ : 0;
    if ((encoding & 0x70) != kBasePosition && (encoding & 0x70) != 0) valid_ = false;
    if ((encoding & 0x80) != 0) valid_ = false;  // indirect: never used for code and LSDA
    uintptr_t value = 0;
    switch (encoding & 0x0f) {
      case kFormatAbsolute:
      case kFormatUdata8:
      case kFormatSdata8:
        value = fixed<uint64_t>();
        break;
      case kFormatUdata4:
        value = fixed<uint32_t>();
        break;
      case kFormatSdata4:
        value = static_cast<uintptr_t>(intptr_t{fixed<int32_t>()});
        break;
      case kFormatUleb128:
        value = uleb128();
        break;
      default:
        valid_ = false;
    }
    return value == 0 ? 0 : base + value;
  }
  uintptr_t at() const { return at_; }
  bool valid() const { return valid_; }

 private:
  const ElfImage& image_;
  uintptr_t at_;
  bool valid_ = true;
};

// What a common description (CIE) says about the descriptions that refer to it.
struct CommonFrame {
  uint8_t pointer_encoding = kFormatAbsolute;
  uint8_t language_encoding = kOmitted;
  bool augmented = false;
};

bool read_common_frame(const ElfImage& image, uintptr_t address, CommonFrame& out) {
  Reader reader(image, address);
  const auto length = reader.fixed<uint32_t>();
  const auto id = reader.fixed<uint32_t>();
  const auto version = reader.fixed<uint8_t>();
  if (!reader.valid() || length > kRecordBytesMax || id != 0 || (version != 1 && version != 3)) {
    return false;
  }
  char augmentation[kAugmentationMax] = {};
  size_t count = 0;
  for (char letter; (letter = reader.fixed<char>()) != '\0'; augmentation[count++] = letter) {
    if (count == kAugmentationMax - 1) return false;
  }
  reader.uleb128();  // code alignment
  reader.uleb128();  // data alignment: signed, but of the same length
  if (version == 1) {
    reader.fixed<uint8_t>();  // return address register
  } else {
    reader.uleb128();
  }
  if (count == 0) return reader.valid();
  if (augmentation[0] != 'z') return false;
  out.augmented = true;
  reader.uleb128();  // length of the augmentation
  for (size_t i = 1; i < count; ++i) {
    switch (augmentation[i]) {
      case 'R':
        out.pointer_encoding = reader.fixed<uint8_t>();
        break;
      case 'L':
        out.language_encoding = reader.fixed<uint8_t>();
        break;
      case 'P': {
        // The personality may be indirect: only its size matters here.
        const auto encoding = reader.fixed<uint8_t>();
        reader.encoded(static_cast<uint8_t>(encoding & 0x0f));
        break;
      }
      case 'S':
      case 'B':
        break;
      default:
        return false;
    }
  }
  return reader.valid();
}

}  // namespace

UnwindTable::UnwindTable(const ElfImage& image) : image_(image) {
  const std::span<const uint8_t> header = image.unwind_header();
  if (header.size() < 12) return;
  const auto base = reinterpret_cast<uintptr_t>(header.data());
  const bool usual = header[0] == 1 && (header[1] & 0x0f) == kFormatSdata4 &&
                     header[2] == kFormatUdata4 && header[3] == (kBaseHeader | kFormatSdata4);
  if (!usual || base % alignof(Entry) != 0) return;
  const auto count = load<uint32_t>(base + 8);
  if (count > (header.size() - 12) / sizeof(Entry)) return;
  header_ = base;
  entries_ = {reinterpret_cast<const Entry*>(base + 12), count};
}

uintptr_t UnwindTable::start_of(size_t entry) const {
  return header_ + static_cast<uintptr_t>(intptr_t{entries_[entry].function});
}

bool UnwindTable::function_at(uintptr_t address, FunctionRange& out) const {
  if (entries_.empty() || start_of(0) > address) return false;
  size_t low = 0;
  size_t high = entries_.size();
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    (start_of(middle) <= address ? low : high) = middle;
  }
  out.begin = start_of(low);
  const Segment* const segment = image_.code_segment(out.begin, 1);
  if (segment == nullptr || !segment->contains(address, 1) || address < out.begin) return false;
  out.end = segment->end;
  if (high < entries_.size() && start_of(high) < segment->end) out.end = start_of(high);
  out.frame_entry = header_ + static_cast<uintptr_t>(intptr_t{entries_[low].frame_entry});
  Frame frame{};
  if (!out.contains(address) || !read_frame(out.frame_entry, frame) || frame.begin != out.begin) {
    return false;
  }
  out.described_end = frame.bytes < out.end - out.begin ? out.begin + frame.bytes : out.end;
  return true;
}

bool UnwindTable::read_frame(uintptr_t frame_entry, Frame& out) const {
  Reader reader(image_, frame_entry);
  const auto length = reader.fixed<uint32_t>();
  const uintptr_t back_from = reader.at();
  const auto back = reader.fixed<uint32_t>();
  if (!reader.valid() || length < 8 || length > kRecordBytesMax || back == 0) return false;
  CommonFrame common;
  if (!read_common_frame(image_, back_from - back, common)) return false;
  out.begin = reader.encoded(common.pointer_encoding);
  out.bytes = reader.encoded(static_cast<uint8_t>(common.pointer_encoding & 0x0f));
  out.language_data = 0;
  if (common.augmented) {
    const uint64_t bytes = reader.uleb128();
    if (bytes != 0) out.language_data = reader.encoded(common.language_encoding);
  }
  return reader.valid();
}

bool UnwindTable::find_call_sites(const FunctionRange& function, CallSites& out) const {
  Frame frame{};
  if (!read_frame(function.frame_entry, frame)) return false;
  if (frame.language_data == 0) return true;
  Reader reader(image_, frame.language_data);
  const auto landing_encoding = reader.fixed<uint8_t>();
  out.landing_base = function.begin;
  if (landing_encoding != kOmitted) out.landing_base = reader.encoded(landing_encoding);
  const auto type_encoding = reader.fixed<uint8_t>();
  if (type_encoding != kOmitted) reader.uleb128();
  out.encoding = reader.fixed<uint8_t>();
  const uint64_t bytes = reader.uleb128();
  out.at = reader.at();
  out.end = out.at + bytes;
  return reader.valid() && bytes <= kRecordBytesMax && image_.readable(out.at, bytes);
}

bool UnwindTable::next_landing_pad(CallSites& sites, uintptr_t& pad) const {
  Reader reader(image_, sites.at);
  reader.encoded(sites.encoding);  // start of the call site
  reader.encoded(sites.encoding);  // its length
  const uintptr_t offset = reader.encoded(sites.encoding);
  reader.uleb128();  // action
  sites.at = reader.at();
  pad = offset == 0 ? 0 : sites.landing_base + offset;
  return reader.valid() && sites.at <= sites.end;
}

}  // namespace weft::preload
