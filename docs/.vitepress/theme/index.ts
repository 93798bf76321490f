import DefaultTheme from 'vitepress/theme';
import { createMermaidRenderer } from 'vitepress-mermaid-renderer';
import { useData, type Theme } from 'vitepress';
import { h, nextTick, watch } from 'vue';
import './style.css';

/** The default theme, with diagrams. */
export default {
  extends: DefaultTheme,
  Layout: () => {
    const { isDark } = useData();
    const draw = (): void => {
      createMermaidRenderer({ static: true, theme: isDark.value ? 'dark' : 'neutral' });
    };
    void nextTick(draw);
    watch(isDark, draw);
    return h(DefaultTheme.Layout);
  },
} satisfies Theme;
