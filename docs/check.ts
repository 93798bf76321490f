/**
 * `npm run docs:check`: looks at the built site in a headless Chromium. Every page loads without errors on the console, and
 * fits a phone; every link inside the site leads to a page, and to a place on it, that is there; diagrams are drawn; the
 * search finds `getOrCreate`.
 */
import { globSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { chromium as playwright, type Browser, type Page } from 'playwright-core';
import { serve } from 'vitepress';
import { chromium } from './chromium.js';

const dist = fileURLToPath(new URL('.vitepress/dist', import.meta.url));
const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 800 };
/** Generous: it only ends what hangs. */
const LIMIT_MS = 60_000;

/** What a page says of itself. */
interface Look {
  /** Addresses that it links to, without those of other sites. */
  readonly links: readonly string[];
  /** Places on it that can be linked to. */
  readonly ids: ReadonlySet<string>;
}

const problems: string[] = [];
const complain = (page: string, problem: string): void => void problems.push(`${page}: ${problem}`);

const { server } = await serve({ root: fileURLToPath(new URL('.', import.meta.url)), port: 0 });
const site = `http://localhost:${(server.address() as AddressInfo).port}${process.env.DOCS_BASE ?? '/'}`;
const browser = await playwright.launch({
  executablePath: chromium(),
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
try {
  const looks = await lookAtPages(browser);
  checkLinks(looks);
  const found = await search(browser, 'getOrCreate');
  const links = [...looks.values()].reduce((sum, look) => sum + look.links.length, 0);
  process.stdout.write(`${looks.size} pages, ${links} links, search for getOrCreate: ${found.length} results\n`);
} finally {
  await browser.close();
  server.close();
}
for (const problem of problems) process.stdout.write(`${problem}\n`);
process.stdout.write(problems.length === 0 ? 'The site is fine.\n' : `${problems.length} problems\n`);
process.exitCode = problems.length === 0 ? 0 : 1;

async function lookAtPages(within: Browser): Promise<Map<string, Look>> {
  const page = await openPage(within, PHONE);
  const looks = new Map<string, Look>();
  for (const file of globSync('**/*.html', { cwd: dist }).toSorted()) {
    if (file !== '404.html') looks.set(file, await lookAt(page, file));
  }
  await page.close();
  return looks;
}

/** A page whose errors are complaints about the file that it shows. */
async function openPage(within: Browser, viewport: { width: number; height: number }): Promise<Page> {
  const page = await within.newPage({ viewport });
  page.setDefaultTimeout(LIMIT_MS);
  page.on('pageerror', (error) => complain(page.url(), error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') complain(page.url(), `console: ${message.text()}`);
  });
  page.on('requestfailed', (request) => {
    // a page that is left ends what it was still fetching ahead
    const reason = request.failure()?.errorText;
    if (reason !== 'net::ERR_ABORTED') complain(page.url(), `${request.url()} ${reason}`);
  });
  return page;
}

async function lookAt(page: Page, file: string): Promise<Look> {
  const response = await page.goto(site + file, { waitUntil: 'load' });
  if (response?.status() !== 200) complain(file, `status ${response?.status()}`);
  await page.locator('#app > .Layout').waitFor();
  await drawDiagrams(page, file);
  const tooWide = await page.evaluate(elementsBeyond, PHONE.width);
  if (tooWide) complain(file, `wider than ${PHONE.width} px: ${tooWide}`);
  const { links, ids } = await page.evaluate(() => ({
    links: [...document.querySelectorAll<HTMLAnchorElement>('a[href]')].map(({ href }) => href),
    ids: [...document.querySelectorAll('[id]')].map(({ id }) => id),
  }));
  return { links: links.filter((link) => link.startsWith(site)), ids: new Set(ids) };
}

/** What makes the document wider than the screen, if it is. */
function elementsBeyond(width: number): string | undefined {
  if (document.documentElement.scrollWidth <= width) return undefined;
  const wide = [...document.querySelectorAll('body *')].filter((each) => each.getBoundingClientRect().right > width);
  return (
    wide
      .slice(0, 3)
      .map((each) => each.outerHTML.slice(0, 120))
      .join(' … ') || 'nobody knows what'
  );
}

/** Diagrams are drawn when they come into view. */
async function drawDiagrams(page: Page, file: string): Promise<void> {
  const count = await page.locator('.language-mermaid').count();
  for (let at = 0; at < count; at += 1) {
    // one that is drawn isn't a block of code any more
    await page.locator('.language-mermaid').first().scrollIntoViewIfNeeded();
    await page.locator('.mermaid-wrapper svg[aria-roledescription]').nth(at).waitFor();
  }
  if ((await page.locator('.diagram-error').count()) > 0) complain(file, 'a diagram could not be drawn');
}

function checkLinks(looks: ReadonlyMap<string, Look>): void {
  for (const [file, { links }] of looks) {
    for (const link of new Set(links)) {
      const { pathname, hash } = new URL(link);
      const path = decodeURIComponent(pathname.slice(new URL(site).pathname.length));
      const target = looks.get(path === '' || path.endsWith('/') ? `${path}index.html` : path);
      if (!target) complain(file, `links to ${link}, which isn't there`);
      else if (hash !== '' && !target.ids.has(decodeURIComponent(hash.slice(1)))) {
        complain(file, `links to ${link}: there is no such place on that page`);
      }
    }
  }
}

/** The addresses of what the search of the site finds. */
async function search(within: Browser, text: string): Promise<string[]> {
  const page = await openPage(within, DESKTOP);
  await page.goto(site, { waitUntil: 'load' });
  await page.locator('#local-search button').first().click();
  await page.locator('.VPLocalSearchBox input').fill(text);
  const results = page.locator('.VPLocalSearchBox .results a');
  await results.first().waitFor();
  const found = await results.evaluateAll((links) => links.map((link) => (link as HTMLAnchorElement).href));
  if (!found.some((link) => link.includes('/get-or-create'))) complain('search', `'${text}' is not found in the guide`);
  if (!found.some((link) => link.includes('/api/'))) complain('search', `'${text}' is not found in the API reference`);
  await results.first().click();
  await page.locator('.VPLocalSearchBox').waitFor({ state: 'detached' });
  if (!(await page.locator('main').innerText()).includes(text)) complain('search', `the first page has no '${text}'`);
  await page.close();
  return found;
}
