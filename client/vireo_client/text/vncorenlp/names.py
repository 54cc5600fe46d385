"""Names and sentence openers that the initial segmentation knows beside the lexicon.

The model's lexicon holds no proper names. The method joins a run of capitalised syllables into one
name, with these exceptions, all in lower case and with tones placed as `toned.py` places them:

- a place or country of several syllables is one word wherever it stands, in lower case too;
- a country or company of one syllable, and a syllable that often opens a sentence or stands as a
  title before a name ("Ông", "Các", "Đường"), does not begin a name;
- a middle name after a family name that already ended a word goes on with it.

The lists were put together from common knowledge (the provinces and districts of Viet Nam, the
countries of the world, the usual family and middle names, the closed word classes) and checked
against the reference segmenter's answers. They are data, not method: a name missing here only
matters where it touches another capitalised word or is written in lower case.
"""

from __future__ import annotations


def _names(*lines: str) -> frozenset[str]:
    """Parse names of several syllables, separated by commas."""
    return frozenset(name.strip() for line in lines for name in line.split(","))


def _syllables(*lines: str) -> frozenset[str]:
    """Parse single syllables, separated by spaces."""
    return frozenset(syllable for line in lines for syllable in line.split())


COUNTRIES = _names(
    # Asia
    "việt nam, trung quốc, đài loan, hồng kông, hàn quốc, triều tiên, nhật bản, mông cổ, ấn độ",
    "sri lanka, thái lan, đông timor, ả rập saudi, các tiểu vương quốc, thổ nhĩ kỳ",
    # Europe
    "anh quốc, đan mạch, thuỵ điển, thuỵ sĩ, thuỵ sỹ, na uy, phần lan, hà lan, ba lan, bồ đào nha",
    "tây ban nha, hy lạp, hi lạp, san marino, bắc ireland, vương quốc anh, cộng hoà séc",
    # The Americas
    "hoa kỳ, el salvador, costa rica, puerto rico, cộng hoà dominica, trinidad và tobago",
    "saint lucia, antigua và barbuda",
    # Africa and Oceania
    "ai cập, nam phi, bờ biển ngà, burkina faso, sierra leone, cape verde, cộng hoà trung phi",
    "tây sahara, nam sudan, papua new guinea, new zealand, guinea xích đạo, quần đảo solomon",
    "quần đảo cook, quần đảo marshall",
)

PLACES = _names(
    # Provinces and the large cities
    "hà nội, hồ chí minh, sài gòn, hải phòng, đà nẵng, cần thơ, an giang, bà rịa, vũng tàu",
    "bắc giang, bắc kạn, bắc cạn, bạc liêu, bắc ninh, bến tre, bình định, bình dương, bình phước",
    "bình thuận, cà mau, cao bằng, đắk lắk, đắc lắc, đăk lăk, đắk nông, đăk nông, đắc nông",
    "điện biên, đồng nai, đồng tháp, gia lai, hà giang, hà nam, hà tĩnh, hải dương, hậu giang",
    "hoà bình, hưng yên, khánh hoà, kiên giang, kon tum, lai châu, lâm đồng, lạng sơn, lào cai",
    "long an, nam định, nghệ an, ninh bình, ninh thuận, phú thọ, phú yên, quảng bình, quảng nam",
    "quảng ngãi, quảng ninh, quảng trị, sóc trăng, sơn la, tây ninh, thái bình, thái nguyên",
    "thanh hoá, thừa thiên huế, thừa thiên, tiền giang, trà vinh, tuyên quang, vĩnh long",
    "vĩnh phúc, yên bái, hà tây, nha trang, đà lạt, qui nhơn, quy nhơn, biên hoà, mỹ tho",
    "buôn ma thuột, hạ long, hội an, phan thiết, phan rang, tháp chàm, tuy hoà, đồng hới",
    "đông hà, tam kỳ, bảo lộc, rạch giá, hà tiên, châu đốc, long xuyên, cao lãnh, sa đéc",
    "vị thanh, thủ dầu một, cẩm phả, uông bí, móng cái, việt trì, tam điệp, phủ lý, chí linh",
    # Ha Noi and the north
    "ba đình, hoàn kiếm, tây hồ, long biên, cầu giấy, đống đa, hai bà trưng, hoàng mai",
    "thanh xuân, hà đông, bắc từ liêm, nam từ liêm, từ liêm, sóc sơn, đông anh, gia lâm",
    "thanh trì, mê linh, sơn tây, ba vì, phúc thọ, đan phượng, hoài đức, quốc oai, thạch thất",
    "chương mỹ, thanh oai, thường tín, phú xuyên, ứng hoà, mỹ đức, hồng bàng, ngô quyền",
    "lê chân, hải an, kiến an, đồ sơn, dương kinh, thuỷ nguyên, an dương, an lão, kiến thuỵ",
    "tiên lãng, vĩnh bảo, cát hải, bạch long vĩ, cát bà, từ sơn, yên phong, quế võ, tiên du",
    "thuận thành, gia bình, lương tài, yên thế, tân yên, lạng giang, lục nam, lục ngạn, sơn động",
    "yên dũng, việt yên, hiệp hoà, ba bể, ngân sơn, bạch thông, chợ đồn, chợ mới, na rì, pác nặm",
    "bảo lâm, bảo lạc, thông nông, hà quảng, trà lĩnh, trùng khánh, hạ lang, quảng uyên",
    "phục hoà, hoà an, nguyên bình, thạch an, tủa chùa, mường ảng, mường chà, mường nhé",
    "tuần giáo, điện biên phủ, điện biên đông, mường lay, đồng văn, mèo vạc, yên minh, quản bạ",
    "vị xuyên, bắc mê, hoàng su phì, xín mần, bắc quang, quang bình, duy tiên, kim bảng",
    "lý nhân, thanh liêm, bình lục, cẩm giàng, gia lộc, kim thành, kinh môn, nam sách, ninh giang",
    "thanh hà, thanh miện, tứ kỳ, bình giang, kim bôi, kỳ sơn, lạc sơn, lạc thuỷ, lương sơn",
    "mai châu, tân lạc, yên thuỷ, đà bắc, cao phong, ân thi, khoái châu, kim động, mỹ hào",
    "phù cừ, tiên lữ, văn giang, văn lâm, yên mỹ, phong thổ, sìn hồ, mường tè, tam đường",
    "than uyên, tân uyên, bắc sơn, bình gia, cao lộc, chi lăng, đình lập, hữu lũng, lộc bình",
    "tràng định, văn lãng, văn quan, bảo thắng, bảo yên, bát xát, bắc hà, mường khương, sa pa",
    "si ma cai, văn bàn, giao thuỷ, hải hậu, mỹ lộc, nam trực, nghĩa hưng, trực ninh, vụ bản",
    "xuân trường, ý yên, gia viễn, hoa lư, kim sơn, nho quan, yên khánh, yên mô, cẩm khê",
    "đoan hùng, hạ hoà, lâm thao, phù ninh, tam nông, tân sơn, thanh ba, thanh sơn, thanh thuỷ",
    "yên lập, ba chẽ, bình liêu, cô tô, đầm hà, đông triều, hải hà, hoành bồ, tiên yên, vân đồn",
    "yên hưng, quảng yên, bắc yên, mai sơn, mộc châu, mường la, phù yên, quỳnh nhai, sông mã",
    "sốp cộp, thuận châu, yên châu, đông hưng, hưng hà, kiến xương, quỳnh phụ, thái thuỵ",
    "tiền hải, vũ thư, đại từ, định hoá, đồng hỷ, phổ yên, phú bình, phú lương, sông công",
    "võ nhai, chiêm hoá, hàm yên, na hang, sơn dương, yên sơn, bình xuyên, lập thạch, phúc yên",
    "tam đảo, tam dương, vĩnh tường, vĩnh yên, yên lạc, lục yên, mù cang chải, nghĩa lộ",
    "trạm tấu, trấn yên, văn chấn, văn yên, yên bình",
    # The centre and the highlands
    "bá thước, bỉm sơn, cẩm thuỷ, đông sơn, hà trung, hậu lộc, hoằng hoá, lang chánh, mường lát",
    "nga sơn, ngọc lặc, như thanh, như xuân, nông cống, quan hoá, quan sơn, quảng xương, sầm sơn",
    "thạch thành, thiệu hoá, thọ xuân, thường xuân, tĩnh gia, triệu sơn, vĩnh lộc, yên định",
    "anh sơn, con cuông, cửa lò, diễn châu, đô lương, hưng nguyên, nam đàn, nghi lộc, nghĩa đàn",
    "quế phong, quỳ châu, quỳ hợp, quỳnh lưu, tân kỳ, thanh chương, tương dương, yên thành",
    "cẩm xuyên, can lộc, đức thọ, hồng lĩnh, hương khê, hương sơn, kỳ anh, nghi xuân, thạch hà",
    "vũ quang, lộc hà, bố trạch, lệ thuỷ, minh hoá, quảng ninh, quảng trạch, tuyên hoá, cam lộ",
    "cồn cỏ, đa krông, gio linh, hải lăng, hướng hoá, triệu phong, vĩnh linh, a lưới",
    "hương thuỷ, hương trà, nam đông, phong điền, phú lộc, phú vang, quảng điền, cẩm lệ",
    "hải châu, hoà vang, hoàng sa, liên chiểu, ngũ hành sơn, sơn trà, thanh khê, bắc trà my",
    "đại lộc, điện bàn, đông giang, duy xuyên, hiệp đức, nam giang, nam trà my, núi thành",
    "phú ninh, phước sơn, quế sơn, tây giang, thăng bình, tiên phước, ba tơ, bình sơn, đức phổ",
    "lý sơn, minh long, mộ đức, nghĩa hành, sơn hà, sơn tịnh, tây trà, trà bồng, tư nghĩa",
    "an nhơn, hoài ân, hoài nhơn, phù cát, phù mỹ, tây sơn, tuy phước, vân canh, vĩnh thạnh",
    "đông hoà, đồng xuân, phú hoà, sơn hoà, sông cầu, sông hinh, tây hoà, tuy an, cam lâm",
    "cam ranh, diên khánh, khánh sơn, khánh vĩnh, ninh hoà, trường sa, vạn ninh, bác ái",
    "ninh hải, ninh phước, ninh sơn, thuận bắc, bắc bình, đức linh, hàm tân, hàm thuận bắc",
    "hàm thuận nam, phú quý, tánh linh, tuy phong, đắk glei, đắk hà, đắk tô, kon plông",
    "kon rẫy, ngọc hồi, sa thầy, tu mơ rông, an khê, ayun pa, chư păh, chư prông, chư sê",
    "đắk đoa, đak đoa, đak pơ, đức cơ, ia grai, ia pa, kông chro, krông pa, mang yang",
    "phú thiện, buôn đôn, buôn hồ, cư kuin, ea kar, ea súp, krông ana",
    "krông bông, krông búk, krông năng, krông pắk, cư jút, đắk glong, đắk mil",
    "đắk song, gia nghĩa, krông nô, tuy đức, bảo lâm, cát tiên, đạ huoai, đạ tẻh",
    "đam rông, di linh, đơn dương, đức trọng, lạc dương, lâm hà",
    # The south
    "bình chánh, bình tân, bình thạnh, cần giờ, củ chi, gò vấp, hóc môn, nhà bè, phú nhuận",
    "tân bình, tân phú, thủ đức, chợ lớn, châu đức, côn đảo, đất đỏ, long điền, tân thành",
    "xuyên mộc, bến cát, dầu tiếng, dĩ an, phú giáo, tân uyên, thuận an, bù đăng, bù đốp",
    "bình long, chơn thành, đồng phú, đồng xoài, lộc ninh, phước long, cẩm mỹ, định quán",
    "long khánh, long thành, nhơn trạch, tân phú, thống nhất, trảng bom, vĩnh cửu, xuân lộc",
    "bến cầu, châu thành, dương minh châu, gò dầu, hoà thành, tân biên, tân châu, trảng bàng",
    "bến lức, cần đước, cần giuộc, đức hoà, đức huệ, mộc hoá, tân an, tân hưng, tân thạnh",
    "tân trụ, thạnh hoá, thủ thừa, vĩnh hưng, cái bè, cai lậy, chợ gạo, gò công, gò công đông",
    "gò công tây, tân phước, ba tri, bình đại, chợ lách, giồng trôm, mỏ cày, thạnh phú",
    "càng long, cầu kè, cầu ngang, duyên hải, tiểu cần, trà cú, bình minh, long hồ, mang thít",
    "tam bình, trà ôn, vũng liêm, hồng ngự, lai vung, lấp vò, tam nông, tân hồng, thanh bình",
    "tháp mười, an phú, châu phú, phú tân, thoại sơn, tịnh biên, tri tôn, bình thuỷ, cái răng",
    "cờ đỏ, ninh kiều, ô môn, thới lai, thốt nốt, long mỹ, ngã bảy, phụng hiệp, vị thuỷ",
    "kế sách, long phú, mỹ tú, mỹ xuyên, ngã năm, thạnh trị, vĩnh châu, đông hải, giá rai",
    "hoà bình, hồng dân, phước long, cái nước, đầm dơi, năm căn, ngọc hiển, thới bình",
    "trần văn thời, u minh, an biên, an minh, giang thành, giồng riềng, gò quao, hòn đất",
    "kiên hải, kiên lương, phú quốc, tân hiệp, vĩnh thuận",
)

SHORT_NAMES = _syllables(
    # Countries written as one syllable or one foreign word
    "anh pháp đức nga mỹ ý úc áo bỉ lào ấn nhật hàn canada brazil brasil argentina mexico cuba",
    "chile peru colombia venezuela ecuador bolivia paraguay uruguay panama nicaragua honduras",
    "guatemala haiti jamaica bahamas barbados grenada dominica guyana suriname belize",
    "campuchia myanmar singapore malaysia indonesia philippines philippin brunei nepal bhutan",
    "bangladesh pakistan afghanistan iran iraq israel jordan lebanon liban syria yemen oman qatar",
    "kuwait bahrain maldives kazakhstan uzbekistan turkmenistan tajikistan kyrgyzstan armenia",
    "azerbaijan georgia gruzia ukraine ukraina belarus moldova romania rumani bulgaria bungari",
    "hungary hungari serbia croatia slovenia slovakia bosnia montenegro macedonia albania kosovo",
    "séc iceland ireland ailen scotland wales malta monaco andorra liechtenstein luxembourg",
    "estonia latvia lithuania cyprus síp algeria angola benin botswana burundi cameroon chad",
    "comoros congo djibouti eritrea ethiopia gabon gambia ghana guinea kenya lesotho liberia",
    "libya madagascar malawi mali mauritania mauritius morocco maroc mozambique namibia niger",
    "nigeria rwanda senegal seychelles somalia sudan swaziland tanzania togo tunisia uganda zambia",
    "zimbabwe fiji kiribati nauru palau samoa tonga tuvalu vanuatu greenland guam aruba bermuda",
    # Companies and their brands
    "google facebook microsoft apple samsung sony toyota honda yamaha suzuki ford nokia intel ibm",
    "pepsi nike adidas toshiba panasonic philips siemens boeing airbus shell unilever nestle",
    "viettel vinamilk lg hp dell oracle cisco mobifone vinaphone fpt amazon ebay yahoo twitter",
    "bmw audi mercedes nissan hyundai kia mazda canon nikon fujitsu hitachi sharp xerox",
    "motorola visa",
)

OPENERS = _syllables(
    # Persons: pronouns and titles
    "anh ông bà chị em cô chú bác cậu dì cụ cháu con tôi ta mình họ nó hắn người thầy bạn",
    "bố mẹ cha má vợ chồng ai kẻ đứa thằng bé gã tên vị lão ngài nàng chàng vua",
    # Numerals and measure
    "một hai ba bốn trăm nghìn triệu tỷ nửa đôi vài mấy mỗi mọi từng",
    "những các hàng toàn cả số cái chiếc bức cuốn quyển tấm cây hòn đoàn đội nhóm đám đợt",
    "lần lượt bên tháng ngày giờ năm tuần đêm sáng trưa chiều tối hôm mùa nguyên",
    # Function words
    "và hay hoặc nhưng mà thì là của cho với từ đến tới tại ở trong ngoài trên dưới trước sau",
    "giữa cùng theo về vào ra lên xuống qua để do vì bởi nếu khi lúc tuy dù dẫu nên rồi còn đã",
    "đang sẽ sắp vừa mới cũng đều vẫn cứ chỉ chưa không chẳng chớ đừng hãy phải cần bị được",
    "có rất quá lắm hơn nhất như bằng này kia đó đây ấy nọ nào gì sao đâu thế vậy bao thật chính",
    "ngay hết chứ à ạ ừ ồ ôi nhé thôi cách xong suốt khắp gần xa tận đối dọc",
    # Places and institutions that stand before a name
    "nhà làng xã huyện tỉnh phường quận phố đường ngõ ấp thôn xóm bản buôn khu vùng miền nước sông",
    "suối hồ biển núi đèo đồi đảo vịnh cầu chợ chùa đền đình tháp trường lớp viện bệnh toà sở ban",
    "bộ cục hội hãng báo đài tàu thuyền xe ga bến cảng trạm cửa hang động rừng ruộng vườn dãy dòng",
    "luật chuyện mành tết trùm quân phía hướng điểm chỗ nơi",
    # Verbs and nouns that often open a sentence
    "làm nói hỏi nghe thấy nhìn biết nhớ nghĩ đi chạy ngồi đứng nằm xem gọi gặp tìm sang",
    "mua bán chống mở đóng giá việc tin bài thơ sách phim nhạc cơm nhân",
)

FAMILY_NAMES = _syllables(
    "nguyễn trần lê phạm hoàng huỳnh phan vũ võ đặng bùi đỗ hồ ngô dương lý đào đoàn vương trịnh",
    "trương đinh lâm phùng mai tô hà tạ lương lưu cao chu châu thái tôn triệu kiều mạc quách thân",
    "doãn diệp từ văn tăng giang la tống lục khổng bạch khúc nghiêm đàm hứa lại ninh cù bửu vĩnh",
)

MIDDLE_NAMES = _syllables(
    "văn thị hữu đức công quang quốc minh ngọc thanh xuân thu kim hồng hoàng đình bá trọng thế duy",
    "gia bảo anh tuấn mạnh hùng việt nam trung thành chí tiến phú quý vĩnh khắc viết sĩ sỹ",
    "đăng danh như mỹ bích diệu phương thuý thuỳ quỳnh tuyết mai lan hoài khánh thiên thiện nhật",
    "nguyên hải sơn hà trường tấn phước phúc vinh tường thái cẩm ánh lệ kiều diễm linh cao vũ",
    "nguyễn lê trần đắc huy cảnh tử tôn",
)
