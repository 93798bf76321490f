import { posix } from 'node:path';
import type { MarkdownRenderer } from 'vitepress';

const { GITHUB_SERVER_URL, GITHUB_REPOSITORY, GITHUB_SHA } = process.env;

/** Where the sources can be read: known when the site is built by GitHub Actions. */
const sources = GITHUB_REPOSITORY && `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}/blob/${GITHUB_SHA}`;

/**
 * Links of the pages to files that are no pages (`../examples/…`) lead to the sources, or, where nobody knows their
 * address, become plain text.
 */
export function sourceLinks(md: MarkdownRenderer): void {
  md.core.ruler.push('source-links', ({ tokens, env }) => {
    const page = (env as { relativePath?: string }).relativePath ?? '';
    for (const { children } of tokens) {
      let isPlain = false;
      for (const token of children ?? []) {
        const href = token.type === 'link_open' ? (token.attrGet('href') ?? '') : '';
        const path = sourcePath(page, href);
        if (path !== undefined && sources) token.attrSet('href', `${sources}/${path}`);
        if (path !== undefined && !sources) isPlain = true;
        // what shows a folder on GitHub is its index here
        if (path === undefined && href !== '') token.attrSet('href', href.replace(/\bREADME\.md\b/, 'index.md'));
        if (!isPlain) continue;
        const isEnd = token.type === 'link_close';
        if (isEnd || token.type === 'link_open')
          [token.type, token.tag, token.attrs, token.nesting] = ['text', '', null, 0];
        if (isEnd) isPlain = false;
      }
    }
  });
}

/** The path from the root of the repository, when `href` leaves the folder of the pages. */
function sourcePath(page: string, href: string): string | undefined {
  if (href === '' || /^(\w+:|#|\/)/.test(href)) return undefined;
  const path = posix.join('docs', posix.dirname(page), href);
  return path.startsWith('docs/') ? undefined : path;
}
