export { type CurvePlot, type CurveSeries, curvePlot } from './curves.ts';
export { type GridImages, type ImageGridOptions, imageGrid, writeImageGrid } from './image-grid.ts';
export { type ImagePanel, imagePanels, writeImagePanels } from './image-panels.ts';
export { svgToPng, writePlot } from './render.ts';
export {
  type PlotPoints,
  type ScatterOptions,
  type ScatterPanel,
  scatterPanels,
  scatterPlot,
} from './scatter.ts';
