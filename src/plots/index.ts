export { type CurvePlot, type CurveSeries, curvePlot } from './curves.ts';
export { svgToPng, writePlot } from './render.ts';
export {
  type PlotPoints,
  type ScatterOptions,
  type ScatterPanel,
  scatterPanels,
  scatterPlot,
} from './scatter.ts';
