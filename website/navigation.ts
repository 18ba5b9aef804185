/** A page of the site: a file of the repository, and its name in the navigation. */
export interface Page {
  /** Relative to the root of the repository. */
  readonly file: string;
  readonly title: string;
}

export interface Section {
  readonly title: string;
  readonly pages: readonly Page[];
}

const guide = (name: string, title: string): Page => ({ file: `docs/${name}.md`, title });

/** Every guide, in the order in which a newcomer needs them. The build fails where a guide is missing here. */
export const SECTIONS: readonly Section[] = [
  {
    title: 'Start here',
    pages: [
      guide('introduction', 'What it is, and when λ helps'),
      guide('install', 'Install'),
      guide('tutorial-images', 'Tutorial: your own images'),
      guide('command-line', 'The command line'),
      guide('images', 'Sets of images'),
      guide('image-files', 'Image files'),
      guide('points', 'Points'),
      guide('training-runs', 'Training runs'),
    ],
  },
  {
    title: 'Choosing λ',
    pages: [
      guide('choosing-lambda', 'Choosing λ'),
      guide('theory', 'What λ does'),
      guide('sweeps', 'Sweeps'),
      guide('iso-at-sampling', 'λ at sampling'),
      guide('metrics', 'Metrics'),
      guide('feature-extractors', 'Feature extractors'),
    ],
  },
  {
    title: 'Your own parts',
    pages: [
      guide('custom', 'Overview'),
      guide('losses', 'Losses'),
      guide('models', 'Models and layers'),
      guide('unets', 'U-Nets'),
      guide('schedulers', 'Schedulers'),
      guide('optimizers', 'Optimizers'),
      guide('graph', 'Graphs and ops'),
      guide('ops', 'Table of ops'),
    ],
  },
  {
    title: 'Drawing',
    pages: [
      guide('samplers', 'Samplers'),
      guide('editing', 'Editing images'),
      guide('files', 'Files and the Hub'),
      guide('from-diffusers', 'From diffusers'),
    ],
  },
  {
    title: 'Latent diffusion',
    pages: [guide('latent-diffusion', 'Latent diffusion'), guide('autoencoders', 'Autoencoders')],
  },
  {
    title: 'Devices',
    pages: [
      guide('devices', 'Devices'),
      guide('gpu', 'GPUs'),
      guide('mixed-precision', 'Half precision'),
      guide('tfjs', 'tfjs'),
      guide('how-long', 'How long, which batch'),
      guide('performance', 'Performance'),
      guide('distributed', 'Several processes'),
    ],
  },
  {
    title: 'Browser',
    pages: [
      guide('browser', 'In a page'),
      guide('play', 'The page of play'),
      guide('environments', 'Test runners and bundlers'),
    ],
  },
  {
    title: 'Help',
    pages: [guide('troubleshooting', 'Troubleshooting'), guide('errors', 'Errors')],
  },
  {
    title: 'Results',
    pages: [guide('results-2d', 'Results on points'), guide('results-images', 'Results on images')],
  },
  {
    title: 'Project',
    pages: [
      { file: 'CHANGELOG.md', title: 'Changelog' },
      { file: 'CONTRIBUTING.md', title: 'Contributing' },
      { file: 'ARCHITECTURE.md', title: 'Architecture' },
      { file: 'SECURITY.md', title: 'Security' },
    ],
  },
];

/** Where a file of the repository lies on the site: `docs/theory.md` is `theory.md`, `CHANGELOG.md` is `changelog.md`. */
export const sitePath = (file: string): string => file.replace(/^docs\//, '').toLowerCase();
