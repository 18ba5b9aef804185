/** First bytes of the formats that are decoded. Others (SVG, PDF) can refer to other files, so they are refused. */
const FORMATS: readonly { name: string; at: number; bytes: readonly number[] }[] = [
  { name: 'PNG', at: 0, bytes: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a] },
  { name: 'JPEG', at: 0, bytes: [0xff, 0xd8, 0xff] },
  { name: 'GIF', at: 0, bytes: [0x47, 0x49, 0x46, 0x38] },
  { name: 'WebP', at: 8, bytes: [0x57, 0x45, 0x42, 0x50] },
  { name: 'TIFF', at: 0, bytes: [0x49, 0x49, 0x2a, 0x00] },
  { name: 'TIFF', at: 0, bytes: [0x4d, 0x4d, 0x00, 0x2a] },
  { name: 'AVIF', at: 4, bytes: [0x66, 0x74, 0x79, 0x70, 0x61, 0x76, 0x69] },
];

/** The image format that `bytes` begin with, or undefined. */
export function imageFormatOf(bytes: Uint8Array): string | undefined {
  return FORMATS.find(({ at, bytes: magic }) => magic.every((value, i) => bytes[at + i] === value))?.name;
}
