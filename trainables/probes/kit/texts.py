"""What the pictures say, in each language; written for this kit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """One language: its English name, people, chat messages in order, names of settings, and sentences of a letter."""

    name: str
    people: tuple[str, ...]
    messages: tuple[str, ...]
    settings: tuple[str, ...]
    letter: tuple[str, ...]


LANGUAGES = (
    Language(
        "English",
        ("Nora", "Theo", "Grace", "Walter"),
        ("Are you home already?", "Not yet, the train is late again.", "Shall I put the soup on the stove?",
         "Yes please, I will be there at seven.", "Did you find the blue umbrella?",
         "It was behind the door all along.",
         "Great, see you soon!", "Bring some bread if the shop is open."),
        ("Notifications", "Dark theme", "Sounds", "Location", "Updates", "Backup"),
        ("Dear neighbours,", "on Saturday we repaint the staircase.",
         "Please keep the landing free until the evening.",
         "The cellar stays open the whole day.", "If you have questions, ring at the ground floor."),
    ),
    Language(
        "German",
        ("Jule", "Anton", "Frieda", "Henrik"),
        ("Bist du schon zu Hause?", "Noch nicht, der Zug hat Verspätung.", "Soll ich die Suppe aufsetzen?",
         "Gern, ich komme gegen sieben.", "Hast du den blauen Schirm gefunden?",
         "Er stand die ganze Zeit hinter der Tür.",
         "Schön, bis gleich!", "Bring bitte Brötchen mit."),
        ("Mitteilungen", "Dunkles Design", "Töne", "Standort", "Aktualisierung", "Sicherung"),
        ("Liebe Nachbarn,", "am Samstag streichen wir das Treppenhaus.", "Bitte haltet den Absatz bis abends frei.",
         "Der Keller bleibt den ganzen Tag offen.", "Fragen beantworten wir im Erdgeschoss."),
    ),
    Language(
        "French",
        ("Élise", "Rémi", "Chloé", "Gaspard"),
        ("Tu es déjà rentrée ?", "Pas encore, le train a du retard.", "Je mets la soupe à chauffer ?",
         "Oui, j'arrive vers sept heures.", "As-tu trouvé le parapluie bleu ?", "Il était derrière la porte.",
         "Parfait, à tout de suite !", "Prends du pain si c'est ouvert."),
        ("Notifications", "Thème sombre", "Sons", "Position", "Mises à jour", "Sauvegarde"),
        ("Chers voisins,", "samedi nous repeignons la cage d'escalier.", "Merci de laisser le palier libre.",
         "La cave reste ouverte toute la journée.", "Pour toute question, sonnez au rez-de-chaussée."),
    ),
    Language(
        "Spanish",
        ("Inés", "Álvaro", "Lucía", "Tomás"),
        ("¿Ya estás en casa?", "Todavía no, el tren llega tarde.", "¿Pongo la sopa al fuego?",
         "Sí, llego sobre las siete.", "¿Encontraste el paraguas azul?", "Estaba detrás de la puerta.",
         "¡Muy bien, hasta ahora!", "Trae pan si está abierto."),
        ("Avisos", "Tema oscuro", "Sonidos", "Ubicación", "Novedades", "Copia"),
        ("Queridos vecinos:", "el sábado pintamos la escalera.", "Dejen libre el rellano hasta la tarde.",
         "El sótano sigue abierto todo el día.", "Para preguntas, llamen al bajo."),
    ),
    Language(
        "Polish",
        ("Zofia", "Łukasz", "Hania", "Michał"),
        ("Jesteś już w domu?", "Jeszcze nie, pociąg się spóźnia.", "Wstawić zupę?", "Tak, będę około siódmej.",
         "Znalazłaś niebieski parasol?", "Cały czas stał za drzwiami.", "Świetnie, do zobaczenia!",
         "Kup chleb po drodze."),
        ("Powiadomienia", "Ciemny motyw", "Dźwięki", "Położenie", "Aktualizacje", "Kopia"),
        ("Drodzy sąsiedzi,", "w sobotę malujemy klatkę schodową.", "Prosimy nie zastawiać półpiętra.",
         "Piwnica będzie otwarta cały dzień.", "Pytania? Zapraszamy na parter."),
    ),
    Language(
        "Russian",
        ("Вера", "Глеб", "Соня", "Игорь"),
        ("Ты уже дома?", "Ещё нет, поезд опаздывает.", "Поставить суп на плиту?", "Да, буду около семи.",
         "Ты нашла синий зонт?", "Он всё время стоял за дверью.", "Отлично, до встречи!", "Купи хлеба по дороге."),
        ("Уведомления", "Тёмная тема", "Звуки", "Место", "Обновления", "Копия"),
        ("Дорогие соседи!", "В субботу мы красим лестницу.", "Пожалуйста, не занимайте площадку.",
         "Подвал открыт весь день.", "Вопросы можно задать на первом этаже."),
    ),
    Language(
        "Greek",
        ("Ελένη", "Νίκος", "Δάφνη", "Πέτρος"),
        ("Είσαι ήδη στο σπίτι;", "Όχι ακόμα, το τρένο άργησε.", "Να βάλω τη σούπα στη φωτιά;",
         "Ναι, έρχομαι στις επτά.",
         "Βρήκες την μπλε ομπρέλα;", "Ήταν πίσω από την πόρτα.", "Ωραία, τα λέμε σε λίγο!", "Φέρε λίγο ψωμί."),
        ("Ειδοποιήσεις", "Σκούρο θέμα", "Ήχοι", "Τοποθεσία", "Ενημερώσεις", "Αντίγραφο"),
        ("Αγαπητοί γείτονες,", "το Σάββατο βάφουμε τις σκάλες.", "Αφήστε ελεύθερο το πλατύσκαλο.",
         "Το υπόγειο μένει ανοιχτό.", "Για απορίες, χτυπήστε στο ισόγειο."),
    ),
    Language(
        "Vietnamese",
        ("Hương", "Đức", "Ngọc", "Quân"),
        ("Em về nhà chưa?", "Chưa, tàu lại đến muộn.", "Anh nấu canh nhé?", "Vâng, bảy giờ em về.",
         "Em thấy chiếc ô xanh không?", "Nó ở sau cánh cửa.", "Tốt quá, hẹn gặp lại!", "Mua thêm bánh mì nhé."),
        ("Thông báo", "Giao diện tối", "Âm thanh", "Vị trí", "Cập nhật", "Sao lưu"),
        ("Kính gửi bà con,", "thứ bảy chúng tôi sơn cầu thang.", "Xin để trống chiếu nghỉ đến tối.",
         "Tầng hầm vẫn mở cả ngày.", "Có câu hỏi xin đến tầng trệt."),
    ),
)  # fmt: skip
# drawn only with a font that has its letters
CHINESE = Language(
    "Chinese",
    ("小雨", "志明", "秀英", "文涛"),
    ("你到家了吗？", "还没有，火车晚点了。", "我先把汤热上？", "好的，我七点到。", "蓝色的雨伞找到了吗？",
     "一直在门后面。", "太好了，一会儿见！", "路上买点面包。"),
    ("通知", "深色主题", "声音", "位置", "更新", "备份"),
    ("各位邻居：", "周六我们粉刷楼梯。", "请在傍晚前保持平台畅通。", "地下室全天开放。", "有问题请到一楼。"),
)  # fmt: skip

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (205, 50, 45), "blue": (45, 105, 210), "green": (45, 150, 75), "orange": (240, 135, 30),
    "purple": (130, 70, 180), "yellow": (240, 200, 40), "pink": (235, 120, 165), "brown": (130, 85, 50),
}  # fmt: skip
