const legacyNames: readonly (readonly [RegExp, string])[] = [
  [/\.query\.(weight|bias)$/, '.to_q.$1'],
  [/\.key\.(weight|bias)$/, '.to_k.$1'],
  [/\.value\.(weight|bias)$/, '.to_v.$1'],
  [/\.proj_attn\.(weight|bias)$/, '.to_out.0.$1'],
];

/** The present name of a parameter: attention was named otherwise before diffusers 0.15, as in google/ddpm-*. */
export function currentParameterName(name: string): string {
  for (const [pattern, replacement] of legacyNames)
    if (pattern.test(name)) return name.replace(pattern, replacement);
  return name;
}
