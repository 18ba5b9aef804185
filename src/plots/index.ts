export { type CurvePlot, type CurveSeries, curvePlot } from './curves.ts';
export {
  type GridImages,
  type ImageGridOptions,
  type ImagePanel,
  imageGrid,
  imagePanels,
  writeImageGrid,
  writeImagePanels,
} from './image-grid.ts';
export { svgToPng, writePlot } from './render.ts';
export {
  type PlotPoints,
  type ScatterOptions,
  type ScatterPanel,
  scatterPanels,
  scatterPlot,
} from './scatter.ts';
