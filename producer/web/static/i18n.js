// Words of the page. English is in the HTML and here for what scripts say; Chinese is all here.
const WORDS = {
  en: {
    waiting: "waiting", queued: "queued", running: "running", ok: "done", failed: "failed", skipped: "not taken",
    preparing: "preparing", open: "running", done: "Done", finished: "done", cancelled: "cancelled", refused: "refused",
    upload: "uploading", boxes_of: "{shown} of {all} boxes", per_s: "{rate} pages/s", eta: "{s} s to go",
    workers_n: "{n} workers", more: "and {n} more", no_picture: "Boxes without their picture: {why}",
    why_paged: "browsers do not show this type here", why_other: "it was uploaded from another page",
    limits: "Up to {files} files of {mb} MB at a time; a zip counts as one.", open_job: "Open", delete: "Delete",
    cancel: "Cancel", sure: "Delete {job}, with its results?", no_jobs: "No jobs yet.", no_workers: "No worker is alive.",
    other: "enqueued elsewhere", ago: "{s} s ago", score_box: "score {score}, {w} × {h} px", retry: "Try failed again",
    nothing: "No text found.", state_done: "done", no_answer: "The service does not answer.", retry_one: "Retry",
    in_s: "{s} s", no_torch: "Needs ocrfleet[torch] beside this service.", reads: "reads text",
  },
  zh: {
    detect: "检测文字", jobs: "任务", models: "模型", drop: "将图片、PDF 或 zip 拖放到这里，或粘贴图片", choose: "选择文件",
    folder: "选择文件夹", camera: "拍照", score: "最低置信度", side: "尺寸", threshold: "阈值", unclip: "扩展比例", "side-default": "默认", again: "重新检测",
    retry: "重试失败项", cancel: "取消", download: "下载", page: "页面", state: "状态", boxes: "文本框", fit: "适合窗口",
    job: "任务", done: "完成", failed: "失败", workers: "工作进程", worker: "工作进程", profile: "配置", memory: "内存峰值",
    last: "最近页面", flower: "查看工作进程和任务详情：ocr-worker flower", model: "模型", precision: "精度", scores: "指标",
    "model-choice": "工作进程使用 OCRFLEET_MODEL 指定的模型。", tune: "用自己的数据训练",
    "tune-how": "在装有 ocrfleet[torch] 的机器上，文件夹中包含 train_list.txt、train_images 和 train_gts：",
    token: "令牌（OCRFLEET_WEB_TOKEN）", login: "登录", wrong: "令牌不正确。",
    waiting: "等待", queued: "排队", running: "进行中", ok: "完成", skipped: "未接收", preparing: "准备中", open: "进行中",
    finished: "完成", cancelled: "已取消", refused: "已拒绝", upload: "上传中", boxes_of: "{all} 个框中的 {shown} 个",
    per_s: "{rate} 页/秒", eta: "剩余 {s} 秒", workers_n: "{n} 个工作进程", more: "另有 {n} 项",
    no_picture: "没有图片，只显示文本框：{why}", why_paged: "浏览器无法在此显示该类型", why_other: "图片是在别处上传的",
    limits: "每次最多 {files} 个文件，每个 {mb} MB；一个 zip 算一个文件。", open_job: "打开", delete: "删除",
    sure: "删除 {job} 及其结果？", no_jobs: "还没有任务。", no_workers: "没有可用的工作进程。", other: "由其他程序提交",
    ago: "{s} 秒前", score_box: "置信度 {score}，{w} × {h} 像素", nothing: "没有找到文字。", state_done: "完成",
    no_answer: "服务没有响应。", retry_one: "重试", export: "导出 ONNX", "export-start": "导出", in_s: "{s} 秒",
    no_torch: "此服务需要安装 ocrfleet[torch]。", reads: "识别文字",
  },
};

const english = new Map();
let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");

/** A text in the chosen language; {name} is replaced from values. */
export function t(key, values = {}) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? english.get(key) ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Puts the chosen language into every element that has data-i18n. */
export function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const element of document.querySelectorAll("[data-i18n]")) {
    const key = element.dataset.i18n;
    if (!english.has(key)) english.set(key, element.textContent);
    element.textContent = (language === "zh" && WORDS.zh[key]) || english.get(key);
  }
}

export function otherLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  translate();
}

export const nextLanguageName = () => (language === "zh" ? "English" : "中文");
