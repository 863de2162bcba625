// Rows of pixel bits, 64 to a word.

// A row's word w, and the same pixels' left and right neighbours; zero outside the image.
struct Neighbours {
  u64 here, left, right;
};
FN Neighbours look(const u64* bits, int height, int words, int y, int w) {
  if (y < 0 || y >= height) return {0, 0, 0};
  const u64* row = bits + i64(y) * words;
  return {row[w], row[w] << 1 | (w > 0 ? row[w - 1] >> 63 : 0),
          row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0)};
}

// The bits of one pack; LANES divides 64, so a pack never straddles words.
FN u32 pack_bits(const u64* row, int pack) {
  const int first = pack * LANES;
  return u32(row[first >> 6] >> (first & 63)) & u32((1ull << LANES) - 1);
}

// 1 where at least 4 of the 3×3 pixels are 1. Bit-sliced: row sums of 0 … 3 as two bits each.
FN u64 smooth_authors(const Neighbours rows[3]) {
  u64 ones[3], twos[3];
  for (int i = 0; i < 3; ++i) {
    const Neighbours n = rows[i];
    ones[i] = n.left ^ n.here ^ n.right;
    twos[i] = (n.left & n.here) | (n.right & (n.left | n.here));
  }
  const u64 carry = (ones[0] & ones[1]) | (ones[2] & (ones[0] | ones[1]));
  return (twos[0] & twos[1]) | (twos[2] & carry) | ((twos[0] | twos[1]) & (twos[2] | carry));
}

// 1 where more than 4 of N, S, E, W, NW, SE are 1: at most one of them is 0.
FN u64 smooth_paper(const Neighbours rows[3]) {
  u64 one = 0, two = 0;
  for (u64 set :
       {rows[0].here, rows[2].here, rows[1].left, rows[1].right, rows[0].left, rows[2].right}) {
    two |= one & ~set;
    one |= ~set;
  }
  return ~two;
}
