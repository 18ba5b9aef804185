/** Layers of the ziggurat; a power of two. */
export const ZIGGURAT_LAYERS = 128;
/** x where the base layer's tail begins, for 128 layers (Marsaglia & Tsang 2000). */
export const zigguratTailStart = 3.442619855899;
/** Area of each layer under exp(-x^2 / 2). */
const LAYER_AREA = 9.91256303526217e-3;
/** Positions in a layer on either side of 0: 24 bits, float32's precision. */
const POSITIONS = 2 ** 24;

/**
 * The tables of the ziggurat for the normal density, layer 0 the base: `outerEdge` is the width of a layer divided by
 * the positions in it, `innerEdge` the width within which a position lies under the density for certain, `density` is
 * exp(-x^2 / 2) at the outer edge.
 */
export const zigguratTables = buildTables();

function buildTables(): { outerEdge: Float64Array; innerEdge: Float64Array; density: Float64Array } {
  const edges = new Float64Array(ZIGGURAT_LAYERS);
  edges[ZIGGURAT_LAYERS - 1] = zigguratTailStart;
  for (let layer = ZIGGURAT_LAYERS - 2; layer > 0; layer--) {
    const outer = edges[layer + 1] as number;
    edges[layer] = Math.sqrt(-2 * Math.log(LAYER_AREA / outer + Math.exp(-0.5 * outer * outer)));
  }
  const density = edges.map((edge) => Math.exp(-0.5 * edge * edge));
  const innerEdge = edges.map((_, layer) => edges[layer - 1] ?? zigguratTailStart);
  // The base layer is a rectangle and the tail; as a rectangle of equal area it would be this wide.
  const baseWidth = LAYER_AREA / (density[ZIGGURAT_LAYERS - 1] as number);
  const outerEdge = edges.map((edge, layer) => (layer === 0 ? baseWidth : edge) / POSITIONS);
  return { outerEdge, innerEdge, density };
}
