import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { slug } from 'github-slugger';
import { defineConfig, type DefaultTheme } from 'vitepress';
import { sourceLinks } from './source-links.js';

/** The path below which the site is served; GitHub Pages serves it below the repository's name. */
const base = process.env.DOCS_BASE ?? '/';

const apiSidebar = fileURLToPath(new URL('../api/typedoc-sidebar.json', import.meta.url));

/** Written by TypeDoc just before; the site also works without it. */
function readApiSidebar(): DefaultTheme.SidebarItem[] {
  return existsSync(apiSidebar) ? (JSON.parse(readFileSync(apiSidebar, 'utf8')) as DefaultTheme.SidebarItem[]) : [];
}

const guide: DefaultTheme.SidebarItem[] = [
  {
    text: 'Using it',
    items: [
      { text: 'Getting started', link: '/getting-started' },
      { text: 'Get-or-create', link: '/get-or-create' },
      { text: 'The mixins', link: '/mixins' },
      { text: 'Caching', link: '/caching' },
      { text: 'Transactions', link: '/transactions' },
      { text: 'Outside writes', link: '/outside-writes' },
      { text: 'Testing your code', link: '/testing' },
      { text: 'Coming from …', link: '/coming-from' },
    ],
  },
  {
    text: 'Running it',
    items: [
      { text: 'Operations', link: '/operations' },
      { text: 'Command line', link: '/cli' },
      { text: 'Troubleshooting', link: '/troubleshooting' },
      { text: 'FAQ', link: '/faq' },
    ],
  },
  {
    text: 'What it promises',
    items: [
      { text: 'Guarantees', link: '/guarantees' },
      { text: 'Drivers', link: '/drivers' },
      { text: 'Benchmarks', link: '/benchmarks' },
    ],
  },
  {
    text: 'How it is made',
    items: [
      { text: 'Architecture', link: '/architecture' },
      { text: 'Decisions', link: '/decisions/' },
    ],
  },
];

export default defineConfig({
  title: 'mikro-orm-plus',
  description: 'Race-safe, cached get-or-create for MikroORM 7 on PostgreSQL and Redis',
  lang: 'en',
  base,
  head: [['link', { rel: 'icon', type: 'image/svg+xml', href: `${base}icon.svg` }]],
  cleanUrls: false,
  rewrites: { 'decisions/README.md': 'decisions/index.md' },
  vite: { build: { chunkSizeWarningLimit: 2_000 } },
  markdown: {
    config: (md) => void md.use(sourceLinks),
    // the anchors that GitHub makes, so that links work in both places
    anchor: { slugify: slug },
  },
  themeConfig: {
    nav: [
      { text: 'Guide', link: '/getting-started' },
      { text: 'Guarantees', link: '/guarantees' },
      { text: 'API', link: '/api/' },
    ],
    sidebar: { '/': guide, '/api/': readApiSidebar() },
    outline: [2, 3],
    search: {
      provider: 'local',
      // the guide explains what the reference lists: it comes first
      options: { miniSearch: { searchOptions: { boostDocument: (id) => (id.includes('/api/') ? 0.2 : 1) } } },
    },
  },
});
